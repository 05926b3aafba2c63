/** A dial whose name nobody looks up: the system's own look-up is kept from running, as a dead name server keeps it. */
import { closeSync, constants, openSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { dial } from "../../../nodes/wire/zeromq/dial.ts";
import { temporaryDirectory } from "../../runtime/store/store-fixture.ts";
import { outputSync } from "../../suites/run-sync.ts";

/** How many look-ups and file operations Node has done at once, unless it is told otherwise. */
const POOL_THREADS = Number(process.env["UV_THREADPOOL_SIZE"] ?? 4);

test("a dial waits for a name server no longer than for a peer, and not at all when it is called off", async () => {
  await using directory = await temporaryDirectory();
  // Whoever opens a pipe for reading waits for its writer, in a thread of the pool.
  const pipes = Array.from({ length: POOL_THREADS }, (_, index) => join(directory.path, `pipe-${index}`));
  outputSync("mkfifo", pipes);
  const readers = pipes.map((pipe) => open(pipe, "r"));
  const options = {
    address: "localhost:7400",
    server: Identity.create(),
    identity: Identity.create(),
    role: "client",
    label: "test",
  } as const;
  await expect(dial({ ...options, timeoutMs: 300 })).rejects.toMatchObject({
    code: "PFS_PEER_UNREACHABLE",
    data: { reason: "no name server says what its name means" },
  });
  const calling = new AbortController();
  const called = dial({ ...options, signal: calling.signal });
  calling.abort(new Error("enough"));
  await expect(called).rejects.toThrow("enough");
  for (const pipe of pipes) closeSync(openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK));
  for (const reader of await Promise.all(readers)) await reader.close();
});
