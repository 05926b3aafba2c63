/** The thread of a port's proxy: opens it, then does what the port says until it is told to close. */
import { parentPort, workerData } from "node:worker_threads";
import { messageOf } from "../../../packets/errors.ts";
import { systemCode } from "../../../runtime/errors.ts";
import { TransferOffload } from "../../transfer/transfer-offload.ts";
import { BulkEngine } from "../bulk/engine.ts";
import type { FromProxy, ProxyThreadData, ToProxy } from "./proxy-protocol.ts";
import { TcpProxy } from "./tcp-proxy.ts";

const port = parentPort!;
const tell = (message: FromProxy): void => port.postMessage(message);
const { address, inner, counters, bulk } = workerData as ProxyThreadData;
const channels = new BulkEngine(bulk, (context) => new TransferOffload(context));
const proxy = new TcpProxy({
  inner,
  counters,
  tell,
  acceptBulk: (beginning, socket, rest) => channels.accept(beginning, socket, rest),
});

async function close(): Promise<void> {
  channels.close();
  await proxy.close();
  port.close();
}

async function listen(): Promise<void> {
  try {
    tell({ kind: "listening", port: await proxy.listen(address) });
  } catch (error) {
    const text = messageOf(error);
    tell({ kind: "not-listening", message: text, system: systemCode(error) });
  }
}

port.on("message", (message: ToProxy) => {
  switch (message.kind) {
    case "grant":
      return proxy.grant();
    case "open":
      return proxy.open(message.connection, message.counter, message.key);
    case "refuse":
      return proxy.refuse(message.connection);
    case "cut":
      return proxy.cut(message.connection);
    case "close":
      return void close();
  }
});

void listen();
