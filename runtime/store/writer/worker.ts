/** A thread that writes a store. */
import { parentPort, workerData } from "node:worker_threads";
import type { WriterData } from "./protocol.ts";
import { serveWriter } from "./serve.ts";

const port = parentPort!;
void serveWriter(workerData as WriterData, {
  post: (message, transfer = []) => port.postMessage(message, transfer),
  listen: (take) => void port.on("message", take),
  close: () => port.close(),
});
