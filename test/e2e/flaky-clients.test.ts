/** What one holder of a token does to a hub, by a bad line or on purpose, costs nobody else anything: real processes. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { connect } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { pfs } from "../sdk/cli/run-pfs.ts";
import { until } from "../suites/until.ts";
import { joinNode, startHub } from "./daemon.ts";
import { Line } from "./line.ts";
import { HAS_PROC, peakBytesOf } from "../suites/processes.ts";
import { sha256 } from "../../packets/digest.ts";
import { MessageType } from "../../packets/envelope.ts";
import { ChunkPacker } from "../../nodes/transfer/chunk-batch.ts";
import { Identity } from "../../nodes/wire/trust/keys.ts";
import { parseToken } from "../../nodes/wire/trust/token.ts";
import { dial } from "../../nodes/wire/zeromq/dial.ts";

const MIB = 1024 * 1024;
const CUTS = 10;
/** A dialing side's greeting and HELLO: what follows is its INITIATE, by which the port knows its key. */
const BEGINNING_BYTES = 64 + 202;
const FLOOD_BYTES = 600 * MIB;
const LINES = 1500;
const BURST = 300;
const COUNT = `export default { input: { kind: "lines" }, yields: "value", combine: (a, b) => a + b, map: () => {
  let sum = 0;
  for (let step = 0; step < 2_000_000; step++) sum += step;
  return sum > 0 ? 1 : 0;
} }`;

const others: ChildProcess[] = [];
afterAll(() => others.forEach((other) => other.kill("SIGKILL")));

it("a line that is cut in its handshake ten times: in at the eleventh, and others all the while", async () => {
  const hub = await startHub();
  const line = await Line.to(hub.address);
  let before = 0;
  line.onBytes = () => {
    if (line.connections > CUTS || line.sent - before <= BEGINNING_BYTES) return;
    before = line.sent;
    line.cut();
  };
  let late: PacketFS | undefined;
  while (late === undefined && line.connections <= CUTS) {
    late = await connect(line.token(hub.clientToken)).catch(() => undefined);
    // Another with the same key, at the same address.
    expect(await pfs(["ls", "--at", hub.clientToken])).toMatchObject({ status: 0, err: "" });
  }
  expect(line.connections).toBe(CUTS + 1);
  expect(late).toBeDefined();
  await late!.put(Buffer.from("in"), { name: "in" });
  await late!.close();
  // It says what happened, which was no stranger's doing.
  expect(hub.said).not.toMatch(/unknown key|stranger/);
});

it.runIf(HAS_PROC)("a message of 600 MiB costs its sender the line, and others nothing", async () => {
  const hub = await startHub();
  await joinNode(hub.joinToken, "node");
  await using client = await connect(hub.clientToken);
  await client.put(Buffer.from("a line\n".repeat(LINES)), { name: "lines" });
  let begun = false;
  const job = client.run({ source: COUNT }, ["lines"], {
    splitBytes: 70,
    onEvent: (event) => (begun ||= event.kind === "progress"),
  });
  const [ended] = await Promise.all([Promise.allSettled([job]), flood()]);
  expect(ended).toMatchObject([{ status: "fulfilled", value: { value: LINES } }]);
  // Whoever is there stays; the key that did it is let in again when its pause at that address is over.
  expect(await client.stat("lines")).toMatchObject({ name: "lines" });
  await until(async () => (await pfs(["ls", "--at", hub.clientToken])).status === 0);
  expect(hub.said).not.toMatch(/unknown key|stranger|is gone/);

  async function flood(): Promise<void> {
    await until(() => begun);
    const peak = peakBytesOf(hub.pid);
    const script = fileURLToPath(new URL("./flooding-client-main.ts", import.meta.url));
    const other = spawn(process.execPath, [script, hub.clientToken, String(FLOOD_BYTES)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    others.push(other);
    await hub.says(/message without end/);
    expect(peakBytesOf(hub.pid) - peak).toBeLessThan(64 * MIB);
    other.kill("SIGKILL");
    await once(other, "close");
  }
});

it.runIf(HAS_PROC)("small requests for much, hundreds at once, are answered a few at a time", async () => {
  const hub = await startHub();
  const { address, curveKey, signingKey, secret } = parseToken(hub.clientToken, "client");
  const server = { curveKey, signingKey };
  const link = await dial({
    address,
    server,
    identity: Identity.fromSecret(secret),
    role: "client",
    label: "greedy",
  });
  // Some kilobytes that become 4 MiB each.
  const plain = Array.from({ length: 64 }, (_, index) => new Uint8Array(60_000).fill(index));
  const chunks = plain.map((bytes) => ({ ref: sha256(bytes), bytes }));
  const { packets, body, codec } = await new ChunkPacker().pack(chunks);
  expect(body.byteLength).toBeLessThan(64 * 1024);
  const store = { type: MessageType.STORE, meta: { put: "p", codec }, packets, chunks: body };
  await link.request(store);
  const before = peakBytesOf(hub.pid);
  const stored = await Promise.all(Array.from({ length: BURST }, () => link.request(store)));
  expect(stored).toHaveLength(BURST);
  const refs = Buffer.concat(chunks.map(({ ref }) => ref));
  const read = { type: MessageType.FILE_REQUEST, meta: { here: true }, chunks: refs };
  await Promise.all(Array.from({ length: BURST }, () => link.request(read)));
  // All of them at once are more than a gigabyte.
  expect(peakBytesOf(hub.pid) - before).toBeLessThan((BURST * 4 * MIB) / 2);
  await link.close();
});
