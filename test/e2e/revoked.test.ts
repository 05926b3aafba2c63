/** Who is revoked beside a running hub is out within a second, with the session that it has: real processes. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { HubTokens } from "../../nodes/hub/tokens.ts";
import { parseToken } from "../../nodes/wire/trust/token.ts";
import { Identity } from "../../nodes/wire/trust/keys.ts";
import { dial } from "../../nodes/wire/zeromq/dial.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { connect } from "../../sdk/index.ts";
import { until } from "../suites/until.ts";
import { joinNode, startHub } from "./daemon.ts";
import { Line } from "./line.ts";

const PROMISED_MS = 1000;
/** A machine that is busy delays one or the other; the quickest of them shows what the hub waits for. */
const TIMES = 4;
/** Takes a minute of two cores, if it is let. */
const SLOW = `export default { input: { kind: "lines" }, yields: "bytes", map: (line) => {
  let sum = 0;
  for (let step = 0; step < 5_000_000; step++) sum += step;
  return line + sum + "\\n";
} }`;

it("a client and a node are out within a second", async () => {
  const store = join(await temporaryDirectory(), "hub");
  const hub = await startHub({ store });
  const tokens = new HubTokens(store);
  const waits: Record<"client" | "node", number[]> = { client: [], node: [] };
  for (let time = 0; time < TIMES; time++) {
    const name = `brief-${time}`;
    const { address, curveKey, signingKey, secret } = parseToken(
      await tokens.add({ name, role: "client" }),
      "client",
    );
    const server = { curveKey, signingKey };
    const identity = Identity.fromSecret(secret);
    const link = await dial({ address, server, identity, role: "client", label: name });
    const node = await joinNode(await tokens.add({ name: `${name}-node`, role: "node" }), `machine-${time}`);
    waits.client.push(
      await elapsed(async () => {
        await tokens.revoke(name);
        expect(await link.closed).toMatchObject({
          code: "PFS_NODE_LOST",
          data: { reason: "PFS_PEER_REFUSED" },
        });
      }),
    );
    waits.node.push(
      await elapsed(async () => {
        await tokens.revoke(`${name}-node`);
        await hub.says(new RegExp(`machine-${time} is gone`));
      }),
    );
    await node.end("SIGKILL");
  }
  expect(Math.min(...waits.client)).toBeLessThan(PROMISED_MS);
  expect(Math.min(...waits.node)).toBeLessThan(PROMISED_MS);
});

it("a job whose client lost its line ends with the token, and gives no name", async () => {
  const store = join(await temporaryDirectory(), "hub");
  const hub = await startHub({ store });
  await using client = await connect(hub.clientToken);
  await client.put(Buffer.from("a line\n".repeat(2000)), { name: "lines" });
  const tokens = new HubTokens(store);
  const line = await Line.to(hub.address);
  const token = line.token(await tokens.add({ name: "brief", role: "submitter" }));
  const submitter = await connect(token, { reconnectMs: 0 });
  let isRunning = false;
  const job = submitter.run({ source: SLOW }, ["lines"], {
    out: "result",
    splitBytes: 70,
    onEvent: ({ kind }) => (isRunning ||= kind === "started"),
  });
  const ended = expect(job).rejects.toThrow();
  await until(() => isRunning);
  line.close();
  await ended;
  expect(await client.jobs()).toMatchObject([{ state: "running" }]);
  await tokens.revoke("brief");
  await until(async () => (await client.jobs())[0]!.state !== "running");
  expect(await client.jobs()).toMatchObject([{ state: "cancelled", error: { code: "PFS_CANCELLED" } }]);
  await expect(client.stat("result")).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
  await submitter.close();
});

async function elapsed(work: () => Promise<void>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}
