/** Results as executors say them, who may say anything. */
import { expect, it } from "vitest";
import { Flag, Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { resultPieces } from "../../../runtime/job/results.ts";
import { PROGRAM_LIMITS_MAX } from "../../../runtime/limits.ts";

const untouched = { read: () => Promise.reject(new Error("read")) };

it.each([0, Flag.STREAM])(
  "no byte is read of a result that no program may yield (flags %i)",
  async (flags) => {
    const said = async (length: number): Promise<void> => {
      const answer = encodeFrame([{ op: Op.RETURN, flags, at: 0, length }]);
      for await (const piece of resultPieces(untouched, answer, new AbortController().signal)) void piece;
    };
    await expect(said(PROGRAM_LIMITS_MAX.outputBytes + 1)).rejects.toMatchObject({ code: "PFS_INTERNAL" });
    await expect(said(PROGRAM_LIMITS_MAX.outputBytes)).rejects.toThrow("read");
  },
);
