/** pfs run: what a program yields is data, what it logs is talk, and its failures have a status of their own. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makePlace, TEXT } from "./run-pfs.ts";

describe.concurrent("programs", () => {
  const COUNT = `import { defineProgram, lines } from "packetfs";
    export default defineProgram({
      input: lines(), yields: "groups",
      init: (args: { by: number }) => args.by,
      map: (line, { state, emit }) => { emit("last digit " + (line.length % state), 1); },
      combine: (a: number, b: number) => a + b,
    });`;

  it("run, and their result is data", async () => {
    const { cwd, run, json } = await makePlace();
    await run(["put", "text.txt"]);
    await writeFile(join(cwd, "count.ts"), COUNT);
    const words = ["run", "count.ts", "text.txt", "--args", '{"by":2}', "--split", "64KiB"];
    const { out, err, status } = await run(words);
    expect(status).toBe(0);
    const counts = [0, 0];
    for (const line of TEXT.trimEnd().split("\n")) counts[line.length % 2]!++;
    expect(out).toBe(`last digit 0\t${counts[0]}\nlast digit 1\t${counts[1]}\n`);
    expect(err).toMatch(/^job \S+: 449 kB in /);

    const [result] = await json(words);
    expect(result).toMatchObject({
      schema: 1,
      yields: "groups",
      value: [
        ["last digit 0", counts[0]],
        ["last digit 1", counts[1]],
      ],
      statistics: { inputBytes: TEXT.length, retries: 0 },
    });
  });

  it("may be packet code, which is text of builders' calls", async () => {
    const { run, json } = await makePlace();
    await run(["put", "text.txt"]);
    const { out, status } = await run(["run", "--code", 'count("\\n")', "text.txt"]);
    expect([status, out]).toEqual([0, `${TEXT.split("\n").length - 1}\n`]);
    const [result] = await json(["run", "--code", "lines().max()", "text.txt"]);
    const longest = Math.max(...TEXT.split("\n").map((line) => Buffer.byteLength(line)));
    expect(result).toMatchObject({ yields: "value", value: longest, statistics: { tasks: 1 } });
    const wrong = await run(["run", "--code", "counts()", "text.txt"]);
    expect([wrong.status, wrong.out]).toEqual([2, ""]);
    expect(wrong.err).toContain("at character 0: there is no counts");
    const args = await run(["run", "--code", "lines()", "text.txt", "--args", "1"]);
    expect([args.status, args.err]).toEqual([2, expect.stringContaining("packet code takes no --args")]);
  });

  it("have files beside those that they read, each by a name of its own", async () => {
    const { cwd, run } = await makePlace();
    await run(["put", "text.txt"]);
    await writeFile(join(cwd, "count.ts"), COUNT);
    const words = ["run", "count.ts", "text.txt", "--args", '{"by":2}'];
    const given = await run([...words, "--with", "a=text.txt", "--with", "b=text.txt", "--engine", "auto"]);
    expect(given.status).toBe(0);
    const refused = [
      [["--with", "text.txt"], "--with takes a name and a stored file, as b=matrix.f32"],
      [["--with", "a=text.txt", "--with", "a=other.txt"], "--with gives a twice"],
      [["--with", "a-b=text.txt"], 'a program cannot have a file as "a-b"'],
      [["--engine", "tpu"], "--engine takes auto, gpu or cpu"],
      [["--file", "a=text.txt"], "(Did you mean --with?)"],
    ] as const;
    for (const [more, message] of refused) {
      const { status, err } = await run([...words, ...more]);
      expect([status, err]).toEqual([2, expect.stringContaining(message)]);
    }
    const missing = await run([...words, "--with", "a=nope"]);
    expect([missing.status, missing.out]).toEqual([3, ""]);
    expect(missing.err).toContain("nope");
    const code = await run(["run", "--code", "lines()", "text.txt", "--with", "a=text.txt"]);
    expect([code.status, code.err]).toEqual([2, expect.stringContaining("packet code has no files")]);
  });

  it("say what they log on stderr, and fail with 6", async () => {
    const { cwd, run } = await makePlace();
    await run(["put", "text.txt"]);
    await writeFile(
      join(cwd, "fails.ts"),
      `import { defineProgram, lines } from "packetfs";
       export default defineProgram({
         input: lines(),
         map: (line) => { console.log("seen\\u001b[31m " + line); throw new TypeError("it is too much"); },
         combine: (a: number, b: number) => a + b,
       });`,
    );
    const failed = await run(["run", "fails.ts", "text.txt"]);
    expect(failed.status).toBe(6);
    expect(failed.out).toBe("");
    expect(failed.err).toMatch(/\[\d+ [^\]]+\] seen\\u001b\[31m line \d+/);
    const [sentence, place] = failed.err.slice(failed.err.indexOf("pfs: ")).split("\n");
    expect(sentence).toMatch(
      /^pfs: program "fails\.ts" failed on packet \d+: TypeError: it is too much \(line \d+, byte \d+ of /,
    );
    // The place in the author's file, not in the bundle.
    expect(place).toMatch(/^ +at .*\(fails\.ts:4:\d+\)/);
    const unknown = await run(["run", "fails.ts", "nope"]);
    expect([unknown.status, unknown.out]).toEqual([3, ""]);
  });

  it("show what JSON lacks by one rule, bigints as people write them", async () => {
    const { cwd, run, json } = await makePlace();
    await writeFile(
      join(cwd, "big.ts"),
      `import { defineProgram, lines } from "packetfs";
       export default defineProgram({
         input: lines(),
         map: () => [-(10n ** 20n), Number.NaN, Uint8Array.of(0, 255), new BigInt64Array([-5n])],
         combine: (a: unknown[]) => a,
       });`,
    );
    await run(["put", "text.txt"]);
    expect(await json(["run", "big.ts", "text.txt"])).toMatchObject([
      {
        value: [
          { $: "bigint", v: "-100000000000000000000" },
          { $: "number", v: "NaN" },
          { $: "Uint8Array", v: "00ff" },
          { $: "BigInt64Array", v: ["-5"] },
        ],
      },
    ]);
  });
});
