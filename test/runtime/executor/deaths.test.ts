/**
 * A process that many lanes have a part in ends at any moment, of what somebody else's packet did in it: whatever each of
 * them was about to do, its packets are answered as if none had ended.
 *
 *   PACKETFS_TEST_DEATHS=500 PACKETFS_TEST_SEED=7 npx vitest run test/runtime/executor/deaths.test.ts --testTimeout 0
 */
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import type { Lane } from "../../../runtime/contracts/executor.ts";
import { Collector } from "../../suites/collector.ts";
import { execStream, seededBytes } from "../../suites/exec-packets.ts";
import { ECHO } from "../../suites/executor.ts";
import { Random } from "../../sim/random.ts";
import { LocalHarness } from "./local-harness.ts";

const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 20_261_127);
const DEATHS = Number(process.env["PACKETFS_TEST_DEATHS"] ?? 12);
const LANES_OPEN_MAX = 8;
/** In a row, without an answer between them: of more a lane says that nothing gets done. */
const DEATHS_IN_A_ROW_MAX = 3;
const BYTES = seededBytes(20_000, 3);
const never = new AbortController().signal;

interface Heard {
  readonly lane: Promise<Lane>;
  readonly answers: Collector;
  /** Of each packet, by its `at`. */
  readonly ranges: { readonly from: number; readonly length: number }[];
}

it(`whenever a process ends, packets are answered (${DEATHS} times, PACKETFS_TEST_SEED=${SEED})`, async () => {
  const random = new Random(SEED);
  await using after = new AsyncDisposableStack();
  const harness = await LocalHarness.open({ threads: 2, inputBytes: 1024 * 1024 });
  after.defer(() => harness.close());
  const root = await harness.putFile(BYTES);
  // Both have one process, in which they are loaded each by itself.
  const manifests = [await harness.putProgram(ECHO), await harness.putProgram(ECHO, { name: "other" })];
  const open: Heard[] = [];

  function load(): void {
    const answers = new Collector();
    const lane = harness.executor.load(manifests[random.integer(0, 1)]!, answers, never);
    // Told where it is waited for.
    lane.catch(() => undefined);
    open.push({ lane, answers, ranges: [] });
  }

  function exec({ lane, ranges }: Heard, count: number): Promise<void> {
    const packets = Array.from({ length: count }, () => {
      const from = random.integer(0, BYTES.byteLength - 100);
      const length = random.integer(0, 100);
      const at = ranges.push({ from, length }) - 1;
      return execStream(at, root, from, length);
    });
    return lane.then((loaded) => loaded.exec(encodeFrame(packets)));
  }

  /** All that it was asked is answered, and rightly. */
  async function finish({ lane, answers, ranges }: Heard): Promise<void> {
    await lane;
    await answers.answered(ranges.length);
    for (const [at, { from, length }] of ranges.entries()) {
      const answer = answers.answer(at);
      expect([answer.op, answer.length]).toEqual([Op.RETURN, length]);
      const bytes = length <= 32 ? answer.ref.subarray(0, length) : await harness.readChunk(answer.ref);
      expect(Buffer.compare(bytes, BYTES.subarray(from, from + length))).toBe(0);
    }
    expect(answers.offences).toEqual([]);
  }

  /** Lets something of what is under way happen, or nothing. */
  async function pause(): Promise<void> {
    const kind = random.integer(0, 4);
    if (kind === 1) await Promise.resolve();
    else if (kind === 2) await setImmediate();
    else if (kind === 3) await sleep(random.integer(0, 50));
    else if (kind === 4 && open.length > 0) await open[random.integer(0, open.length - 1)]!.lane;
  }

  let inARow = 0;
  for (let deaths = 0; deaths < DEATHS;) {
    const step = random.integer(0, 9);
    const heard = open[random.integer(0, Math.max(0, open.length - 1))];
    if (heard === undefined || (step < 2 && open.length < LANES_OPEN_MAX)) load();
    else if (step < 6) void exec(heard, random.integer(1, 40));
    else if (step < 7) {
      open.splice(open.indexOf(heard), 1);
      if (random.chance(0.5)) await finish(heard);
      await (await heard.lane).close();
    } else {
      const alive = harness.processes.filter(({ closed }) => !closed);
      if (alive.length > 0) {
        alive.at(-1)!.kill("deadline", "another packet took too long");
        deaths++;
        inARow++;
      }
    }
    await pause();
    if (inARow < DEATHS_IN_A_ROW_MAX && deaths < DEATHS) continue;
    inARow = 0;
    await Promise.all(open.map((each) => exec(each, 1)));
    await Promise.all(open.map(finish));
  }
  await Promise.all(open.map(async ({ lane }) => (await lane).close()));
});
