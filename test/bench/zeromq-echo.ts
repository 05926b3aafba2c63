/** A process that sends back what it gets over ZeroMQ, until whoever started it disconnects. */
import { Router } from "zeromq";

const socket = new Router({ linger: 0, sendHighWaterMark: 0, receiveHighWaterMark: 0 });
await socket.bind("tcp://127.0.0.1:*");
process.on("disconnect", () => socket.close());
process.send!(socket.lastEndpoint);
for await (const message of socket) await socket.send(message);
