/** A clock that is far off harms nothing: what is stored by it can be listed, read and removed, then and later. */
import { expect, it } from "vitest";
import { makePlace, TEXT } from "../sdk/cli/run-pfs.ts";

/** In milliseconds since 1970: the year 287000, which no date can be made of, one beyond exact numbers, and one before 1970. */
it.each([8.99e15, 9.05e15, -5e12])("a clock that says %d", async (now) => {
  const { cwd, run, json } = await makePlace();
  const clock = `--import=data:text/javascript,Date.now=()=>${now}`;
  const environment = { PACKETFS_STORE: `${cwd}/store`, NODE_OPTIONS: clock };
  const off = async (words: readonly string[], input = ""): Promise<string> => {
    const { status, out, err } = await run(words, { environment, input });
    expect({ words, status, err: status === 0 ? "" : err }).toEqual({ words, status: 0, err: "" });
    return out;
  };
  await off(["put", "text.txt"]);
  await off(["put", "-", "--name", "count.txt"], "1");
  const right = async (words: readonly string[]): Promise<string> => (await run(words)).out;
  for (const list of [off, right]) {
    const names = (await list(["ls"])).split("\n").map((line) => line.split("\t")[0]);
    expect(names).toEqual(["count.txt", "text.txt", ""]);
    expect(await list(["ls", "--versions", "text.txt"])).toContain("text.txt\t");
    expect(await list(["cat", "text.txt"])).toBe(TEXT);
  }
  const [{ storedAt }] = (await json(["stat", "text.txt"])) as [{ storedAt: number }];
  expect(new Date(storedAt).getTime()).toBe(storedAt);
  await off(["rm", "text.txt"]);
  await off(["gc"]);
  expect((await json(["verify"]))[0]).toMatchObject({ sound: true });
  await json(["put", "text.txt"]);
  expect(await json(["ls", "text"])).toMatchObject([{ name: "text.txt", version: 1 }]);
});
