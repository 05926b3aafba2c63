/** A stdout that cannot be written to is told in a sentence, not as a defect with a stack. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { makePlace, PFS } from "../sdk/cli/run-pfs.ts";

it
  .runIf(existsSync("/dev/full"))
  .each([["cat", "text.txt"], ["get", "text.txt", "-o", "-"], ["ls"], ["packets", "text.txt"]])(
  "pfs %s %s > /dev/full",
  async (...words) => {
    const { cwd, json } = await makePlace();
    await json(["put", "text.txt"]);
    const shell = [
      "-c",
      'exec "$@" > /dev/full',
      "sh",
      process.execPath,
      PFS,
      ...words.filter((word) => word !== undefined),
    ];
    const options = { cwd, env: { ...process.env, PACKETFS_STORE: join(cwd, "store") } };
    const [status, err] = await new Promise<[unknown, string]>((resolve) => {
      execFile("/bin/sh", shell, options, (error, _out, stderr) => resolve([error?.code ?? 0, stderr]));
    });
    expect(err).toMatch(/^pfs: [^\n]*stdout[^\n]*full[^\n]*\n$/);
    expect(status).toBe(1);
  },
);
