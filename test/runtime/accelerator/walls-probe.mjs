// In place of a GPU process: tries what native code in one would, and says what it could do.
import { spawn } from "node:child_process";
import { openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { connect, Socket } from "node:net";

const { backend } = JSON.parse(process.argv[2]);
const { secret, chunks, port } = JSON.parse(backend);

function can(what) {
  try {
    what();
    return true;
  } catch {
    return false;
  }
}

const reached = await new Promise((resolve) => {
  const socket = connect({ port, host: "127.0.0.1" });
  socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
});
const becameShell = await new Promise((resolve) => {
  const shell = spawn("/bin/sh", ["-c", "exit 7"], { stdio: "ignore" });
  shell.on("close", (code) => resolve(code === 7)).on("error", () => resolve(false));
});
/** Disks are root's, terminals anybody's: of either there is something in most places. */
const others = [
  "pts/0",
  "pts/1",
  "ptmx",
  "tty",
  "kvm",
  "fuse",
  "mem",
  "vda",
  "sda",
  "nvme0n1",
  "loop0",
  "shm/packetfs-probe",
];
const could = {
  "read a person's file": can(() => readFileSync(secret)),
  "read /etc/passwd": can(() => readFileSync("/etc/passwd")),
  "load webgpu": can(() => createRequire(import.meta.url)("webgpu")),
  "read chunks": can(() => readFileSync(chunks)),
  "change chunks": can(() => openSync(chunks, "r+")),
  "write a file": can(() => writeFileSync(`${secret}.new`, "x")),
  "write to its window": can(() => writeSync(5, "x", 0)),
  "read the node's environment": can(() => readFileSync(`/proc/${process.ppid}/environ`)[0].toString()),
  "open a disk, a terminal, or memory of others": others.some((name) =>
    can(() => openSync(`/dev/${name}`, "r+")),
  ),
  "use /dev/null": can(() => writeSync(openSync("/dev/null", "r+"), "x")),
  "become another program": becameShell,
  "reach another process by TCP": reached,
};
const pipe = new Socket({ fd: 3 });
const head = Buffer.from(JSON.stringify({ kind: "absent", why: "software", reason: JSON.stringify(could) }));
const sizes = Buffer.alloc(8);
sizes.writeUInt32LE(head.byteLength, 0);
pipe.write(Buffer.concat([sizes, head]));
