/**
 * What is too much, or cannot be read, is refused by its own code before it costs anybody anything: by a hub, from real
 * processes.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { HubClient } from "../../nodes/remote/hub-client.ts";
import { sha256 } from "../../packets/digest.ts";
import { StreamWriter } from "../../packets/stream-writer.ts";
import { connect } from "../../sdk/index.ts";
import { makePlace } from "../sdk/cli/run-pfs.ts";
import type { Place } from "../sdk/cli/run-pfs.ts";
import { startHub } from "./daemon.ts";
import type { HubDaemon } from "./daemon.ts";

const COUNT = `export default { input: { kind: "lines" }, yields: "value", map: () => 1, combine: (a, b) => a + b };`;
const DEPTH = 20_000;
const SOURCE_BYTES = 20_000_000;

let hub: HubDaemon;
let place: Place;
beforeAll(async () => {
  hub = await startHub();
  place = await makePlace();
  await place.json(["put", "text.txt", "--at", hub.clientToken]);
  await writeFile(join(place.cwd, "count.mjs"), COUNT);
});

describe("arguments that are nested without end", () => {
  const text = "[".repeat(DEPTH) + "]".repeat(DEPTH);

  it("are a wrong usage of the SDK", async () => {
    await using client = await connect(hub.clientToken);
    const running = client.run({ source: COUNT }, ["text.txt"], { args: JSON.parse(text) as unknown });
    await expect(running).rejects.toMatchObject({ code: "PFS_USAGE" });
  });

  it("are a wrong usage of the command line", async () => {
    const words = ["run", "count.mjs", "text.txt", "--args", text, "--at", hub.clientToken];
    const { status, err } = await place.run(words);
    expect(status).toBe(2);
    expect(err).toMatch(/^pfs: args are nested more than \d+ deep.*\n$/);
  });
});

it("a program of 20 MB is refused by its size, not by what comes of building it", async () => {
  const line = "export const table = [1, 2, 3].map((each) => each + 1);\n";
  const lines = Array.from({ length: SOURCE_BYTES / line.length }, (_, index) =>
    line.replace("table", `t${index}`),
  );
  await writeFile(join(place.cwd, "large.mjs"), `${COUNT}\n${lines.join("")}`);
  const { status, err } = await place.run(["run", "large.mjs", "text.txt", "--at", hub.clientToken]);
  expect([status, err]).toEqual([6, expect.stringContaining("a program is made of at most")]);
});

it("a stream that reads beyond its chunk gets no name", async () => {
  const client = await HubClient.connect(hub.clientToken);
  await using writer = await client.data.openWriter();
  const streams: Uint8Array[] = [];
  const own = new Uint8Array(100).fill(9);
  const stream = new StreamWriter((_ref, packets) => void streams.push(packets));
  stream.copy(sha256(own), 50, own.byteLength);
  const beyond = stream.finish();
  for (const each of [own, ...streams]) await writer.write(each.slice(), Uint32Array.of(each.byteLength));
  await expect(writer.bind({ name: "beyond", ...beyond })).rejects.toMatchObject({
    code: "PFS_STREAM_INVALID",
  });
  await client.close();
  expect(await place.run(["stat", "beyond", "--at", hub.clientToken])).toMatchObject({ status: 3 });
});
