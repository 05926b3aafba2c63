/** A job that its user ended, by Ctrl-C or an AbortSignal, is a cancelled one, as it is after "pfs cancel". */
import { expect, it } from "vitest";
import { connect } from "../../sdk/index.ts";
import { joinNode, startHub } from "./daemon.ts";

const ENDLESS = `import { defineProgram, lines } from "packetfs";
  export default defineProgram({
    input: lines(),
    limits: { timeMs: 120_000 },
    map: (line) => { for (;;); },
    combine: (a: number, b: number) => a + b,
  });`;

it("a job whose client gave up is listed as cancelled", async () => {
  const hub = await startHub();
  await joinNode(hub.joinToken, "node-1");
  await using pfs = await connect(hub.clientToken);
  await pfs.put(Buffer.from("some text\n"), { name: "text.txt" });
  const given = new AbortController();
  const run = pfs.run({ source: ENDLESS }, ["text.txt"], {
    signal: given.signal,
    onEvent: ({ kind }) => {
      if (kind === "started") setTimeout(() => given.abort(), 500);
    },
  });
  await expect(run).rejects.toThrow();
  for (;;) {
    const [job] = await pfs.jobs();
    if (job!.state === "running") continue;
    expect(job).toMatchObject({ state: "cancelled" });
    break;
  }
});
