/**
 * A lane at work when somebody else fills the shared memory of the machine, which is small: prints what became of its packets.
 * To be run where the shared memory is its own.
 */
import { statfsSync } from "node:fs";
import { FaultCode } from "../../../packets/faults.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { Collector } from "../../suites/collector.ts";
import { execStream, seededBytes } from "../../suites/exec-packets.ts";
import { ECHO } from "../../suites/executor.ts";
import { fillDisk } from "../store/store-fixture.ts";
import { LocalHarness } from "./local-harness.ts";

const MIB = 1024 * 1024;
const PACKETS = 12;
const BYTES = MIB;

const harness = await LocalHarness.open({ threads: 1, inputBytes: 4 * MIB });
const collector = new Collector();
const lane = await harness.executor.load(
  await harness.putProgram(ECHO),
  collector,
  new AbortController().signal,
);
const root = await harness.putFile(seededBytes(PACKETS * BYTES, 1));
const packets = (from: number, to: number): Uint8Array =>
  encodeFrame(
    Array.from({ length: to - from }, (_, index) =>
      execStream(from + index, root, (from + index) * BYTES, BYTES),
    ),
  );
lane.exec(packets(0, 1));
await collector.answered(1);
fillDisk("/dev/shm/others");
lane.exec(packets(1, PACKETS));
await collector.until(() => collector.answers.size === PACKETS || collector.error !== undefined);
const ops = [...collector.answers.values()].map(({ op }) =>
  op === Op.RETURN ? "return" : FaultCode[op as never],
);
const { bavail } = statfsSync("/dev/shm");
console.log(JSON.stringify({ lost: collector.error?.code, ops, notes: collector.notes, bavail }));
await lane.close();
await harness.close();
