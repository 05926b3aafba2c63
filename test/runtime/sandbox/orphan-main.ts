/** A node that starts an executor, lets it get stuck, says its process id, and waits to be killed. */
import { loadProgram, runFrame, startExecutor } from "./harness.ts";

const executor = await startExecutor();
const source = `export default { input: { kind: "lines" }, limits: { timeMs: 60000 },
  map() { [].indexOf.call({ length: 2 ** 53 - 1 }, 1); } };`;
const lane = await loadProgram(executor, source);
const run = runFrame(executor, lane, [{ bytes: "a" }]);
console.log(executor.pid);
await run;
