/** The thread of the bulk channels that this process dials. */
import { workerData } from "node:worker_threads";
import { TransferOffload } from "../../transfer/transfer-offload.ts";
import { BulkEngine } from "./engine.ts";
import type { BulkThreadData } from "./protocol.ts";

const { bulk } = workerData as BulkThreadData;
void new BulkEngine(bulk, (context) => new TransferOffload(context));
