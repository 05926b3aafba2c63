import { describeExecutor } from "../../suites/executor.ts";
import { LocalHarness } from "./local-harness.ts";

describeExecutor("LocalExecutor", () => LocalHarness.open());
