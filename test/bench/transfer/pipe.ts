/**
 * A command at the other end of a connection, for tools that would have ssh for that: `node pipe.ts listen PORT COMMAND…` runs it for each
 * connection, and `node pipe.ts dial -p PORT HOST …`, as they call ssh, is connected with one.
 */
import { spawn } from "node:child_process";
import { connect, createServer } from "node:net";

const [how, ...words] = process.argv.slice(2);
if (how === "listen") {
  const [port, command = "", ...rest] = words;
  createServer((socket) => {
    const child = spawn(command, rest, { stdio: ["pipe", "pipe", "inherit"] });
    socket.pipe(child.stdin);
    child.stdout.pipe(socket);
    for (const end of [socket, child.stdin]) end.on("error", () => child.kill());
  }).listen(Number(port), "127.0.0.1");
} else {
  const socket = connect({ host: "127.0.0.1", port: Number(words[words.indexOf("-p") + 1]), noDelay: true });
  process.stdin.pipe(socket);
  socket.pipe(process.stdout);
  // Whoever called waits for the end of it.
  socket.on("close", () => process.exit());
}
