/** Connections that break under real clients, and processes that are killed: what was going on goes on where it was. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { connect } from "../../sdk/index.ts";
import type { ConnectionEvent } from "../../sdk/index.ts";
import { LINK_WINDOW_BYTES } from "../../nodes/limits.ts";
import { Identity } from "../../nodes/wire/trust/keys.ts";
import { parseToken, TokenKind } from "../../nodes/wire/trust/token.ts";
import { dial } from "../../nodes/wire/zeromq/dial.ts";
import { pfs, PFS, temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { joinNode, startHub } from "./daemon.ts";
import { bytesOf, noise } from "./inputs.ts";
import { Line } from "./line.ts";

const MIB = 1024 * 1024;
/** A hub that is started again on a busy machine takes its time. */
const PATIENT = { reconnectMs: 180_000 };
/** More than is under way at once: between two of them something arrives, however busy the machine is. */
const CUT_EACH_BYTES: number = LINK_WINDOW_BYTES + 2 * MIB;
/** So many come even where nothing is sent twice. */
const CUTS = 2;

async function* inPieces(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += MIB) yield Uint8Array.from(bytes.subarray(at, at + MIB));
}

describe("a line to the hub that is cut", () => {
  it("again and again: a put goes on and sends little twice, a read too", async () => {
    const hub = await startHub();
    const line = await Line.to(hub.address);
    const news: ConnectionEvent[] = [];
    await using client = await connect(line.token(hub.clientToken), {
      ...PATIENT,
      onConnection: (event) => news.push(event),
    });
    const bytes = noise(40 * MIB, 7);
    let cuts = 0;
    line.onBytes = () => {
      if (cuts === CUTS || line.sent < (cuts + 1) * CUT_EACH_BYTES) return;
      cuts++;
      line.cut();
    };
    // What a stream gave is gone: only the part that was under way can be sent again.
    await client.put(inPieces(bytes), { name: "large" });
    expect(cuts).toBe(CUTS);
    expect(line.connections).toBeGreaterThan(cuts);
    // A busy machine may lose sessions besides, and each loss costs the bytes that were under way.
    const back = news.filter(({ kind }) => kind === "back").length;
    expect(back).toBeGreaterThanOrEqual(cuts);
    const again = back * (LINK_WINDOW_BYTES + MIB);
    expect(line.sent).toBeLessThan(bytes.byteLength + again);
    // From the beginning each time it would have been more.
    expect(CUTS * (CUT_EACH_BYTES - LINK_WINDOW_BYTES - MIB)).toBeGreaterThan(0);
    let more = 0;
    line.received = 0;
    line.onBytes = () => {
      if (more === CUTS || line.received < (more + 1) * 16 * MIB) return;
      more++;
      line.cut();
    };
    expect((await bytesOf(client, "large")).equals(bytes)).toBe(true);
    expect(more).toBe(CUTS);
  });

  it("during a job: it is found again, and has run once", async () => {
    const hub = await startHub();
    await joinNode(hub.joinToken, "node");
    const line = await Line.to(hub.address);
    await using client = await connect(line.token(hub.clientToken), PATIENT);
    const lines = 4_000;
    await client.put(Buffer.from("a line of text\n".repeat(lines)), { name: "lines" });
    let cuts = 0;
    let connections = 0;
    const { value, job } = await client.run(
      {
        source: `import { defineProgram, lines } from "packetfs";
          export default defineProgram({ input: lines(), combine: (a: number, b: number) => a + b, map: () => {
            let sum = 0;
            for (let step = 0; step < 300_000; step++) sum += step;
            return sum > 0 ? 1 : 0;
          } });`,
      },
      ["lines"],
      {
        splitBytes: 300,
        onEvent: (event) => {
          // Each time the job has gone on over another connection.
          if (event.kind !== "progress" || cuts === 3 || line.connections === connections) return;
          connections = line.connections;
          cuts++;
          line.cut();
        },
      },
    );
    expect(cuts).toBeGreaterThanOrEqual(2);
    expect(value).toBe(lines);
    expect((await client.jobs()).map((one) => [one.job, one.state])).toEqual([[job, "done"]]);
  });
});

describe("a hub that is killed and started again", () => {
  it("in the middle of a put and of a read: both go on", async () => {
    const store = join(await temporaryDirectory(), "hub");
    let hub = await startHub({ store });
    const { clientToken, address } = hub;
    await using client = await connect(clientToken, PATIENT);
    const [first, second] = [noise(24 * MIB, 8), noise(24 * MIB, 9)];
    await client.put(first, { name: "first" });
    const restart = async (): Promise<void> => {
      hub.process.kill("SIGKILL");
      await hub.ended;
      hub = await startHub({ store, address });
    };
    let restarted: Promise<void> | undefined;
    await client.put(inPieces(second), {
      name: "second",
      onProgress: (taken) => {
        if (taken > 10 * MIB) restarted ??= restart();
      },
    });
    await restarted;
    let again: Promise<void> | undefined;
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    for await (const piece of client.get("second")) {
      pieces.push(piece.slice());
      bytes += piece.byteLength;
      if (bytes > 2 * MIB) again ??= restart();
    }
    await again;
    expect(Buffer.concat(pieces).equals(second)).toBe(true);
    expect((await bytesOf(client, "first")).equals(first)).toBe(true);
    expect(await client.verify()).toMatchObject({ damaged: [], incomplete: [] });
  });
});

describe("a node that bytes go to", () => {
  it("is killed and joins again, somewhere else: the put goes on", async () => {
    const hub = await startHub();
    const store = join(await temporaryDirectory(), "node");
    let node = await joinNode(hub.joinToken, "node", { store });
    await using client = await connect(hub.clientToken, { node: "node", ...PATIENT });
    const bytes = noise(24 * MIB, 13);
    let again: Promise<void> | undefined;
    const rejoin = async (): Promise<void> => {
      node.process.kill("SIGKILL");
      await node.ended;
      node = await joinNode(hub.joinToken, "node", { store });
    };
    await client.put(inPieces(bytes), {
      name: "there",
      onProgress: (taken) => {
        if (taken > 10 * MIB) again ??= rejoin();
      },
    });
    await again;
    expect((await bytesOf(client, "there")).equals(bytes)).toBe(true);
  });
});

describe("a get that is killed", () => {
  it("leaves a part that the next one goes on with, and a target that is there is not fetched again", async () => {
    const cwd = await temporaryDirectory();
    const hub = await startHub();
    const bytes = noise(40 * MIB, 10);
    {
      await using client = await connect(hub.clientToken);
      await client.put(bytes, { name: "large" });
    }
    const line = await Line.to(hub.address);
    const words = ["get", "large", "-o", "out", "--at", line.token(hub.clientToken)];
    const parts = (): string[] => readdirSync(cwd).filter((name) => name.endsWith(".part"));
    const child = spawn(process.execPath, [PFS, ...words], { cwd, stdio: "ignore" });
    const closed = once(child, "close");
    const size = (): number => Math.max(0, ...parts().map((name) => statSync(join(cwd, name)).size));
    // By what is written, and not by what has passed: a busy machine writes it much later.
    line.onBytes = () => {
      if (size() >= 10 * MIB) line.hold();
    };
    while (size() < 10 * MIB && child.exitCode === null) await sleep(20);
    child.kill("SIGKILL");
    await closed;
    line.cut();
    expect(parts()).toHaveLength(1);
    const had = size();

    line.onBytes = () => {};
    line.received = 0;
    expect((await pfs(words, { cwd })).status).toBe(0);
    expect(readFileSync(join(cwd, "out")).equals(bytes)).toBe(true);
    expect(parts()).toEqual([]);
    expect(line.received).toBeLessThan(bytes.byteLength - had + 4 * MIB);

    line.received = 0;
    expect((await pfs(words, { cwd })).status).toBe(0);
    expect(readFileSync(join(cwd, "out")).equals(bytes)).toBe(true);
    expect(line.received).toBeLessThan(MIB);
  });
});

describe("a node that answers pings and nothing else", () => {
  it("holds up no operation that the others can do, and is told of", async () => {
    const hub = await startHub();
    await joinNode(hub.joinToken, "working");
    const { address, curveKey, signingKey, secret } = parseToken(hub.joinToken, TokenKind.join);
    const silent = await dial({
      address,
      server: { curveKey, signingKey },
      identity: Identity.fromSecret(secret),
      joining: Identity.create(),
      role: "node",
      label: "silent",
    });
    silent.onRequest(() => {});
    await using client = await connect(hub.clientToken);
    const bytes = noise(2 * MIB, 11);
    await client.put(bytes, { name: "kept" });
    await client.put(noise(1000, 12), { name: "removed" });
    const { status } = await pfs(
      ["put", join(import.meta.dirname, "inputs.ts"), "--node", "working", "--at", hub.clientToken],
      {},
    );
    expect(status).toBe(0);
    await client.remove("removed");
    const [report] = await Promise.all([client.verify(), client.gc()]);
    expect(report).toMatchObject({ damaged: [], incomplete: [] });
    expect((await bytesOf(client, "kept")).equals(bytes)).toBe(true);
    await hub.says(/silent keeps its session alive and answers nothing/);
    const nodes = await client.nodes();
    expect(nodes.find(({ label }) => label === "silent")!.lastSeenMs).toBeGreaterThan(1_000);
    expect(nodes.find(({ label }) => label === "working")!.lastSeenMs).toBe(0);
    await silent.close();
  });
});
