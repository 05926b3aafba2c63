/** Programs that go wrong end as typed faults that name program and packet, and an honest job beside them goes on. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startNetwork } from "../../sdk/cli/demo/network.ts";
import type { Network } from "../../sdk/cli/demo/network.ts";
import { connect, openLocal, PacketfsError } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { makePlace, temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { prose, wordCounts } from "./inputs.ts";

interface Misbehaviour {
  readonly name: string;
  readonly source: string;
  readonly code: string;
  readonly says: RegExp;
}

const IMPORT = 'import { defineProgram, lines } from "packetfs";';
const SPIN = "for (;;);";

/** A program whose map is this. */
function mapping(body: string, timeMs = 1000): string {
  return `${IMPORT}
    export default defineProgram({
      input: lines(),
      limits: { timeMs: ${timeMs}, memoryBytes: 32 * 1024 * 1024 },
      map: (line) => { ${body} },
      combine: (a, b) => a,
    });`;
}

const MISBEHAVIOURS: readonly Misbehaviour[] = [
  {
    name: "loops in map",
    source: mapping("while (true) {}"),
    code: "PFS_PROGRAM_TIME_LIMIT",
    says: /1 ?s|1,?000 ms/,
  },
  {
    name: "grows an array without end",
    // On a busy machine memory takes its time.
    source: mapping("const all = []; for (;;) all.push(line + all.length);", 20_000),
    code: "PFS_PROGRAM_MEMORY_LIMIT",
    says: /memory|32/,
  },
  {
    name: "throws an error that is read for ever",
    source: mapping(`throw { get stack() { ${SPIN} }, get message() { ${SPIN} }, toString() { ${SPIN} } };`),
    // Reading it may be refused, or take too long: either is true of it.
    code: "PFS_PROGRAM_(TIME_LIMIT|THREW)",
    says: /./,
  },
  {
    name: "throws",
    source: mapping('throw new RangeError("too much of it");'),
    code: "PFS_PROGRAM_THREW",
    says: /RangeError: too much of it/,
  },
  {
    name: "returns what no result can hold",
    source: mapping("return () => line;"),
    code: "PFS_PROGRAM_THREW",
    says: /function/,
  },
  {
    name: "is not TypeScript",
    source: "const a = 1;\nexport default const;\n",
    code: "PFS_PROGRAM_INVALID",
    says: /:2:/,
  },
  {
    name: "exports nothing by default",
    source: `${IMPORT} export const program = defineProgram({ input: lines(), map: () => 1 });`,
    code: "PFS_PROGRAM_INVALID",
    says: /default/,
  },
  {
    name: "imports what there is not",
    source: 'import { x } from "no-such-package-anywhere"; export default x;',
    code: "PFS_PROGRAM_INVALID",
    says: /no-such-package-anywhere/,
  },
  {
    name: "imports the file system",
    source: 'import { readFileSync } from "node:fs"; export default readFileSync;',
    code: "PFS_PROGRAM_INVALID",
    says: /node:fs/,
  },
];
/** Those that were run say which packet it was. */
const RUN_CODES = /TIME_LIMIT|MEMORY_LIMIT|THREW/;

const HONEST = `${IMPORT}
  export default defineProgram({
    input: lines(),
    yields: "groups",
    map: (line, { emit }) => { for (const word of line.match(/\\S+/g) ?? []) emit(word, 1); },
    combine: (a: number, b: number) => a + b,
  });`;
const text = prose(256 * 1024, 9);
const honestAnswer = wordCounts(text);

async function countHonestly(pfs: PacketFS): Promise<void> {
  const { value } = await pfs.run({ source: HONEST }, ["prose.txt"], { splitBytes: 64 * 1024 });
  expect(value).toEqual(honestAnswer);
}

interface Failure {
  readonly code: string;
  readonly message: string;
}

async function failureOf(pfs: PacketFS, path: string): Promise<Failure | undefined> {
  try {
    await pfs.run({ path }, ["prose.txt"], { splitBytes: 1024 * 1024 });
    return undefined;
  } catch (error) {
    if (!(error instanceof PacketfsError)) throw error;
    return { code: error.code, message: error.message };
  }
}

let network: Network;
let directory: string;
let local: PacketFS;
beforeAll(async () => {
  directory = await temporaryDirectory();
  for (const { name, source } of MISBEHAVIOURS) await writeFile(join(directory, fileName(name)), source);
  local = await openLocal(join(directory, "store"), { workers: 1 });
  network = await startNetwork({ nodes: 1, workers: 1 });
  await using remote = await connect(network.clientToken);
  for (const pfs of [local, remote]) await pfs.put(text, { name: "prose.txt" });
});
afterAll(async () => {
  await local.close();
  await network.stop();
});

function fileName(name: string): string {
  return `${name.replaceAll(" ", "-")}.ts`;
}

describe.each(["in a directory", "at a hub"])("a program %s that", (where) => {
  it("misbehaves ends as a fault, and an honest one beside it is right", async () => {
    await using pfs = where === "at a hub" ? await connect(network.clientToken) : undefined;
    const place = pfs ?? local;
    const failures = Promise.all(
      MISBEHAVIOURS.map(async ({ name }) => {
        return { name, failure: await failureOf(place, join(directory, fileName(name))) };
      }),
    );
    await countHonestly(place);
    for (const [index, { name, failure }] of (await failures).entries()) {
      const { code, says } = MISBEHAVIOURS[index]!;
      expect({ name, failure }).toMatchObject({
        name,
        failure: {
          code: expect.stringMatching(new RegExp(`^${code}$`)),
          message: expect.stringMatching(says),
        },
      });
      expect(failure!.message).toContain(fileName(name));
      if (RUN_CODES.test(code))
        expect(failure!.message).toMatch(/packet \d.*(bytes \d+ to|byte) \d+ of "prose\.txt"/s);
    }
  });
});

describe.concurrent("on the command line", () => {
  it.each([
    ["loops in map", "in a directory", "plainly"],
    ["throws", "at a hub", "as JSON"],
    ["imports the file system", "at a hub", "plainly"],
  ])("a program that %s %s exits with 6, told %s", async (name, where, how) => {
    const place = await makePlace();
    if (where === "in a directory") await place.run(["put", "text.txt", "--name", "prose.txt"]);
    const at = where === "at a hub" ? ["--at", network.clientToken] : [];
    const json = how === "as JSON" ? ["--json"] : [];
    const words = ["run", join(directory, fileName(name)), "prose.txt", "--split", "1MiB", ...at, ...json];
    // What they do wrong is seen when they run, not in their types.
    words.push("--no-check", "--quiet");
    const { code, says } = MISBEHAVIOURS.find((each) => each.name === name)!;

    const { out, err, status } = await place.run(words);
    expect(status).toBe(6);
    if (how === "as JSON") {
      expect(err).toBe("");
      expect(JSON.parse(out)).toMatchObject({
        schema: 1,
        error: { code, message: expect.stringMatching(says) },
      });
    } else {
      expect(out).toBe("");
      expect(err).toMatch(/^pfs: [^\n]*\n( +at [^\n]*\n)*$/);
      expect(err).toMatch(says);
      expect(err).toContain(fileName(name));
    }
  });
});
