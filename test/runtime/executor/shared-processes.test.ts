import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { encodeFrame } from "../../../packets/packet.ts";
import { Collector } from "../../suites/collector.ts";
import { execStream, seededBytes } from "../../suites/exec-packets.ts";
import { LocalHarness } from "./local-harness.ts";
import { programCode } from "../../program-code.ts";

const ECHO = `export default { input: { kind: "bytes" }, yields: "bytes", map: (bytes, { write }) => write(bytes) };`;
const never = new AbortController().signal;

let harness: LocalHarness;
beforeEach(async () => {
  harness = await LocalHarness.open();
});
afterEach(async () => await harness.close());

describe("processes of tenants", () => {
  it("are shared by the lanes of one program, and end with the last of them", async () => {
    const root = await harness.putFile(seededBytes(5000, 1));
    const manifest = await harness.putProgram(ECHO);
    const started = harness.processes.length;
    const [one, two] = [new Collector(), new Collector()];
    const first = await harness.executor.load(manifest, one, never);
    const second = await harness.executor.load(manifest, two, never);
    expect(harness.processes.length - started).toBe(1);
    const process = harness.processes.at(-1)!;
    first.exec(encodeFrame([execStream(0, root, 0, 100)]));
    await one.answered(1);
    await first.close();
    second.exec(encodeFrame([execStream(0, root, 100, 100)]));
    await two.answered(1);
    expect(process.closed).toBe(false);
    await second.close();
    expect(process.closed).toBe(true);
  });

  it("are not shared by programs that differ", async () => {
    const started = harness.processes.length;
    const first = await harness.executor.load(await harness.putProgram(ECHO), new Collector(), never);
    const second = await harness.executor.load(await harness.putProgram(`${ECHO}//`), new Collector(), never);
    expect(harness.processes.length - started).toBe(2);
    await first.close();
    await second.close();
  });

  it("that end are replaced for all their lanes, and every packet is answered", async () => {
    const root = await harness.putFile(seededBytes(5000, 2));
    const manifest = await harness.putProgram(ECHO);
    const [one, two] = [new Collector(), new Collector()];
    const first = await harness.executor.load(manifest, one, never);
    const second = await harness.executor.load(manifest, two, never);
    const frame = encodeFrame(Array.from({ length: 200 }, (_, at) => execStream(at, root, at, 50)));
    first.exec(frame);
    second.exec(frame);
    process.kill(harness.processes.at(-1)!.pid, "SIGKILL");
    await one.answered(200);
    await two.answered(200);
    await first.close();
    await second.close();
  });

  it("of programs that are looked into at the same time are all closed, and one program needs one", async () => {
    const started = harness.processes.length;
    const codes = [0, 1, 2].map((index) => programCode(`${ECHO}// ${index}`));
    await Promise.all([...codes, ...codes].map((code) => harness.executor.inspect(code)));
    expect(harness.processes.length - started).toBe(codes.length);
    const late = harness.executor.inspect(programCode(`${ECHO}// late`));
    await Promise.all([harness.executor.close(), late]);
    expect(harness.processes.slice(started).map(({ closed }) => closed)).not.toContain(false);
  });

  it("that a program was looked into in serve its first lane", async () => {
    const manifest = await harness.putProgram(ECHO);
    const started = harness.processes.length;
    await harness.executor.inspect(programCode(ECHO));
    const lane = await harness.executor.load(manifest, new Collector(), never);
    expect(harness.processes.length - started).toBe(1);
    await lane.close();
  });
});
