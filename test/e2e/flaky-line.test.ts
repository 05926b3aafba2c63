/** A client whose line is cut in the middle of its handshake again and again comes in all the same, and nobody else notices. */
import { expect, it } from "vitest";
import { connect } from "../../sdk/index.ts";
import { readBeginning } from "../../nodes/wire/zeromq/zmtp.ts";
import { TokenKind, formatToken, parseToken } from "../../nodes/wire/trust/token.ts";
import { openRelay } from "../nodes/wire/relay.ts";
import { pfs } from "../sdk/cli/run-pfs.ts";
import { startHub } from "./daemon.ts";

it("is cut ten times and in at the eleventh, between real processes", async () => {
  const hub = await startHub();
  await using other = await connect(hub.clientToken);
  await other.put(new Uint8Array(1000), { name: "small" });
  const through = (address: string): string =>
    formatToken({ ...parseToken(hub.clientToken, TokenKind.client), address });
  const list = async (address: string): ReturnType<typeof pfs> =>
    await pfs(["ls", "--quiet"], { environment: { PACKETFS_AT: through(address) } });
  await using whole = await openRelay(hub.address);
  expect(await list(whole.address)).toMatchObject({ status: 0, err: "" });
  const beginning = readBeginning(whole.said[0]!);
  if (beginning.kind !== "initiated") throw new Error("its handshake is not what it should be");
  // In its greeting, its HELLO and its INITIATE, and after it, when its key was let in already.
  const { initiateAt, initiateEnd } = beginning;
  const cuts = [11, 64, 200, initiateAt, initiateEnd - 1, ...Array.from({ length: 5 }, () => initiateEnd)];
  await using flaky = await openRelay(hub.address, (connection) => cuts[connection]);
  await hub.line(({ event }) => event === "walls");
  const saidBefore = hub.said;
  let finished: Awaited<ReturnType<typeof pfs>> | undefined;
  const late = list(flaky.address).then((result) => (finished = result));
  for (; finished === undefined;) {
    for await (const bytes of other.get("small")) expect(bytes.byteLength).toBe(1000);
  }
  expect(await late).toMatchObject({ status: 0, err: "" });
  expect(finished.out).toContain("small");
  expect(flaky.said).toHaveLength(cuts.length + 1);
  expect(hub.said).toBe(saidBefore);
});
