/** States that packets merge, which may be somebody else's, and as many as that one likes. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { expect, test } from "vitest";
import { Stage, codeFor, decodeCode } from "../../../packets/code/format.ts";
import type { Code } from "../../../packets/code/format.ts";
import { decodeState, emptyState, encodeState, stateBytes } from "../../../packets/code/state.ts";
import { CHUNK_BYTES_MAX } from "../../../packets/limits.ts";
import { mapped, merged } from "../../../runtime/code/piecewise.ts";
import type { Input } from "../../../runtime/code/piecewise.ts";
import { CodeProgram } from "../../../runtime/code/code-lane.ts";
import { CompiledModules, Workspace } from "../../../runtime/code/workspace.ts";
import { LaneSlots } from "../../../runtime/lane-slots.ts";
import { parseCode } from "../../../sdk/code/parse.ts";

const never = new AbortController().signal;
const slots = new LaneSlots();

function mergeOf(text: string): Code {
  return decodeCode(codeFor(parseCode(text).packetCode, Stage.MERGE));
}

/** An input of these bytes, in pieces of so many. */
function inputOf(bytes: Uint8Array, pieceBytes: number): Input {
  const { byteLength } = bytes;
  async function* pieces(start: number, end: number): AsyncGenerator<Uint8Array> {
    for (let at = start; at < end; at += pieceBytes) yield bytes.subarray(at, Math.min(end, at + pieceBytes));
  }
  return { from: 0, length: byteLength, total: byteLength, base: 0, pieces };
}

test("a CRC-32 of bytes of all lengths, whatever pieces the states come in", async () => {
  const code = mergeOf("crc32()");
  const parts = Array.from({ length: 300 }, (_, index) =>
    Buffer.from(String.fromCharCode(33 + (index % 90)).repeat((index * 7919) % 3001)),
  );
  const states = parts.map((part) =>
    encodeState(code, { ...emptyState(code), integer: BigInt(crc32(part)), count: part.byteLength }),
  );
  const slot = slots.take("code", undefined);
  for (const pieceBytes of [5, 16, 1000, 1_000_000]) {
    const input = inputOf(Buffer.concat(states), pieceBytes);
    const { integer, count } = decodeState(code, await merged(code, input, { meter: slot, signal: never }));
    expect([Number(integer), count]).toEqual([
      crc32(Buffer.concat(parts)),
      parts.reduce((sum, part) => sum + part.byteLength, 0),
    ]);
  }
  expect(slot.cpuMs).toBeGreaterThan(0);
});

test("a chunk full of states leaves others their turns, and is left when nobody waits for it", async () => {
  const code = mergeOf("crc32()");
  const most = { ...emptyState(code), integer: 0xffff_fffen, count: 2 ** 31 - 1 };
  const bytes = Buffer.alloc(CHUNK_BYTES_MAX, encodeState(code, most));
  expect(bytes.byteLength % stateBytes(code)).toBe(0);
  const slot = slots.take("code", undefined);
  let turns = 0;
  let isMerged = false;
  const merging = merged(code, inputOf(bytes, CHUNK_BYTES_MAX), { meter: slot, signal: never }).finally(
    () => (isMerged = true),
  );
  for (; !isMerged; turns++) await nextTurn();
  await merging;
  expect(turns).toBeGreaterThan(3);
  const controller = new AbortController();
  const left = merged(code, inputOf(bytes, CHUNK_BYTES_MAX), { meter: slot, signal: controller.signal });
  controller.abort(new Error("nobody waits"));
  await expect(left).rejects.toThrow("nobody waits");
});

test("an input that yields less than it has is a defect, and not waited for", async () => {
  const program = new CodeProgram(parseCode("count()").packetCode);
  const input = { ...inputOf(Buffer.alloc(1000), 100), total: 1100, length: 1100 };
  const running = {
    workspace: new Workspace(new CompiledModules()),
    meter: slots.take("code", undefined),
    signal: never,
  };
  await expect(
    mapped(program, { ...input, pieces: (start) => input.pieces(start, 1000) }, running),
  ).rejects.toThrow("an input yielded nothing from byte 1000 on");
});
