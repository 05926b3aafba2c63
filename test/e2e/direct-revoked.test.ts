/** What runs at a node under a grant ends within a second of the revocation of the token that it was given for: real processes. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { refAt } from "../../packets/digest.ts";
import { encodeFrame } from "../../packets/packet.ts";
import { HubTokens } from "../../nodes/hub/tokens.ts";
import { HubClient } from "../../nodes/remote/hub-client.ts";
import { ingest, writeChunks } from "../../runtime/stream/ingest.ts";
import { sourceBytes } from "../../sdk/files.ts";
import { bundleProgram } from "../../sdk/programs/bundle.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { emptyFrame, exec } from "../suites/exec-packets.ts";
import { HAS_PROC, descendantsOf, runningOf } from "../suites/processes.ts";
import { threadTimes } from "../suites/cpu-time.ts";
import { until } from "../suites/until.ts";
import { joinNode, startHub } from "./daemon.ts";

const PROMISED_MS = 1000;
/** A machine that is busy delays one or the other; the quickest of them shows what is waited for. */
const TIMES = 3;
/** For ever, where there is any input, but for its limit of a minute. */
const LOOP = `export default { input: { kind: "bytes" }, yields: "value", limits: { timeMs: 60_000 }, map: (record) => {
  while (record.length > 0);
  return 0;
} }`;

/** CPU time that a process has had which is busy with a packet, and not with starting. */
const BUSY_MS = 1000;

/** Milliseconds of processors that each process below this one has had. */
function processorTimes(pid: number): Map<number, number> {
  const sum = (times: Map<string, number>): number => [...times.values()].reduce((all, one) => all + one, 0);
  return new Map(descendantsOf(pid).map((each) => [each, sum(threadTimes(each))]));
}

it.runIf(HAS_PROC)("a packet that runs under a grant ends with the token", async () => {
  const store = join(await temporaryDirectory(), "hub");
  const hub = await startHub({ store });
  const node = await joinNode(hub.joinToken, "worker");
  const tokens = new HubTokens(store);
  const { name, code } = await bundleProgram({ source: LOOP });
  const waits: number[] = [];
  for (let time = 0; time < TIMES; time++) {
    const token = await tokens.add({ name: `brief-${time}`, role: "submitter" });
    const client = await HubClient.connect(token, { reconnectMs: 0 });
    const writer = await client.data.openWriter();
    const { root } = await ingest(writer, sourceBytes(code, undefined));
    const program = await client.load({ program: name, code: root });
    const ref = refAt(await writeChunks(writer, [Buffer.from("8 bytes.")]), 0);
    await writer.flush();
    // The second call has the lane at the node made.
    for (let call = 0; call < 2; call++) await program.exec(emptyFrame(1));
    await program.direct.settled();
    const first = new Map<number, number>();
    const ended = expect(program.exec(encodeFrame([exec(0, ref, 0, 8)]))).rejects.toThrow();
    const busyOf = (): number | undefined =>
      [...processorTimes(node.pid)].find(([pid, ms]) => {
        if (!first.has(pid)) first.set(pid, ms);
        return ms - first.get(pid)! > BUSY_MS;
      })?.[0];
    await until(() => busyOf() !== undefined);
    const busy = busyOf();
    const { direct, relayed } = program.direct.answered;
    const begun = performance.now();
    await tokens.revoke(`brief-${time}`);
    await until(() => runningOf([busy!]).length === 0);
    waits.push(performance.now() - begun);
    await ended;
    expect(program.direct.answered).toEqual({ direct, relayed });
    await client.close().catch(() => undefined);
  }
  expect(Math.min(...waits)).toBeLessThan(PROMISED_MS);
});
