/** Runs a kernel that never ends until it is killed itself: see orphan.test.ts. */
import { findAccelerators } from "../../../runtime/accelerator/accelerators.ts";
import { endless } from "./kernels.ts";

const source = { read: (): Promise<never> => Promise.reject(new Error("no chunks here")) };
const { accelerators } = await findAccelerators({ source, isSoftwareUsed: true });
const kernel = { ...endless, limits: { ...endless.limits, gpuMs: 60_000 } };
const inputs = [{ bytes: new Uint8Array(4_000) }];
const running = accelerators[0]!.run(
  { kernel, dimensions: { n: 1_000 }, inputs },
  new AbortController().signal,
);
console.log("running");
await running;
