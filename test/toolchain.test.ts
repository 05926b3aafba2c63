/**
 * What the project stands on, tried once each: the Node that runs, and the packages that bring native code or processes of
 * their own. Something here fails first where an install went wrong or a platform lacks a prebuilt binary.
 */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { decode, encode } from "@msgpack/msgpack";
import ivm from "isolated-vm";
import { Piscina } from "piscina";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Context, Reply, Request, capability } from "zeromq";
import packageJson from "../package.json" with { type: "json" };
import pinnedNode from "../runtime/build/node/package.json" with { type: "json" };
import { ROOT } from "./source-tree.ts";

const run = promisify(execFile);

/** What a script prints that runs in the project's folder, in a process of its own. */
async function printedBy(script: string): Promise<string> {
  const { stdout } = await run(process.execPath, ["-e", script], { cwd: ROOT });
  return stdout;
}

describe("Node", () => {
  test("is the pinned one, where it is installed as a package", () => {
    const system = process.platform === "win32" ? "win" : process.platform;
    const pinned = Object.entries(pinnedNode.optionalDependencies);
    const [, version] = pinned.find(([name]) => name === `node-${system}-${process.arch}`) ?? [];
    // Elsewhere it is the machine's own.
    if (version !== undefined) expect(process.versions.node).toBe(version);
    expect(new Set(pinned.map(([, each]) => each)).size, "all systems have the same").toBe(1);
  });

  test("is not installed where its binary cannot run, in the place of the user's own", () => {
    const { packages } = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as {
      readonly packages: Record<string, { readonly os?: unknown; readonly libc?: unknown }>;
    };
    const pinned = Object.keys(pinnedNode.optionalDependencies).map(
      (name) => packages[`node_modules/${name}`]!,
    );
    const linux = pinned.filter(({ os }) => String(os) === "linux");
    expect(linux).toHaveLength(2);
    // The packages do not say so themselves: it stands in the lock file, where npm keeps it.
    for (const each of linux) expect(each.libc).toEqual(["glibc"]);
  });

  test("is within what package.json asks for", () => {
    const [, major, minor] = /^>=(\d+)\.(\d+)$/.exec(packageJson.engines.node)!.map(Number);
    const [runningMajor, runningMinor] = process.versions.node.split(".").map(Number);
    expect(runningMajor! * 1000 + runningMinor!).toBeGreaterThanOrEqual(major! * 1000 + minor!);
  });
});

describe("isolated-vm", () => {
  test("evaluates in an isolate that knows nothing of this process", () => {
    const isolate = new ivm.Isolate({ memoryLimit: 16 });
    try {
      const context = isolate.createContextSync();
      expect(context.evalSync("6 * 7")).toBe(42);
      expect(context.evalSync("[typeof process, typeof require, typeof fetch].join()")).toBe(
        "undefined,undefined,undefined",
      );
    } finally {
      isolate.dispose();
    }
  });

  test("stops what runs for too long", () => {
    const isolate = new ivm.Isolate({ memoryLimit: 16 });
    try {
      const context = isolate.createContextSync();
      expect(() => context.evalSync("for (;;);", { timeout: 20 })).toThrow("Script execution timed out.");
    } finally {
      isolate.dispose();
    }
  });
});

describe("zeromq", () => {
  test("can encrypt with CURVE", () => {
    expect(capability.curve).toBe(true);
  });

  test("asks and answers within a process", async () => {
    const context = new Context({ blocky: false });
    const reply = new Reply({ context, linger: 0, receiveTimeout: 10_000 });
    const request = new Request({ context, linger: 0, receiveTimeout: 10_000 });
    try {
      await reply.bind("inproc://toolchain");
      request.connect("inproc://toolchain");
      await request.send(["ping", Uint8Array.of(0, 255)]);
      const asked = await reply.receive();
      expect(asked.map((part) => part.toString("hex"))).toEqual([
        Buffer.from("ping").toString("hex"),
        "00ff",
      ]);
      await reply.send("pong");
      const [answer] = await request.receive();
      expect(answer!.toString()).toBe("pong");
    } finally {
      request.close();
      reply.close();
    }
  });
});

describe("piscina", () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "pfs-toolchain-"));
    await writeFile(
      join(directory, "double.mjs"),
      "export default (bytes) => bytes.map((byte) => byte * 2);\n",
    );
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  test("runs a task in a thread", async () => {
    const filename = pathToFileURL(join(directory, "double.mjs")).href;
    const pool = new Piscina<Uint8Array, Uint8Array>({ filename, maxThreads: 1, execArgv: [] });
    try {
      expect(await pool.run(Uint8Array.of(1, 2, 3))).toEqual(Uint8Array.of(2, 4, 6));
    } finally {
      await pool.destroy();
    }
  });
});

describe("@msgpack/msgpack", () => {
  test("brings back what it was given", () => {
    const value = {
      text: "größe",
      number: 2 ** 53 - 1,
      half: 0.5,
      bytes: Uint8Array.of(0, 128, 255),
      list: [true, null],
    };
    expect(decode(encode(value))).toEqual(value);
  });
});

describe("gpu.js", () => {
  test("runs a kernel on the CPU, without gl and without loading webgpu", async () => {
    const printed = await printedBy(`
      const { GPU } = require("gpu.js");
      const gpu = new GPU({ mode: "cpu" });
      const kernel = gpu.createKernel(function (a) { return a[this.thread.x] * 2; }).setOutput([3]);
      const doubled = Array.from(kernel([1, 2, 3]));
      const isWebgpu = (path) => /[\\\\/]node_modules[\\\\/]@?webgpu[\\\\/]/.test(path);
      console.log(JSON.stringify({ doubled, webgpu: Object.keys(require.cache).filter(isWebgpu) }));
    `);
    expect(JSON.parse(printed)).toEqual({ doubled: [2, 4, 6], webgpu: [] });
  });

  test("finds a gl that throws, so nothing was downloaded or built for it", async () => {
    const printed = await printedBy(`
      try { require("gl"); console.log("loaded"); } catch (error) { console.log(error.message); }
    `);
    expect(printed).toContain("gl is not installed");
  });
});

describe("webgpu", () => {
  test("is the one that does not end this Node, and compiles WGSL where there is no driver", async () => {
    const printed = await printedBy(`
      const { create, globals } = require("webgpu");
      Object.assign(globalThis, globals);
      (async () => {
        const instance = create(["backend=null"]);
        const device = await (await instance.requestAdapter()).requestDevice();
        device.addEventListener("uncapturederror", (event) => event.preventDefault());
        const module = device.createShaderModule({ code: "fn f() -> u32 {\\n  return x;\\n}" });
        const [{ lineNum, linePos, type }] = (await module.getCompilationInfo()).messages;
        console.log(JSON.stringify({ lineNum, linePos, type }));
        process.kill(process.pid, "SIGKILL");
      })();
    `).catch((error: { readonly stdout?: string }) => error.stdout ?? "");
    expect(JSON.parse(printed)).toEqual({ lineNum: 2, linePos: 10, type: "error" });
    expect(packageJson.optionalDependencies.webgpu).toBe("0.6.2");
  });
});
