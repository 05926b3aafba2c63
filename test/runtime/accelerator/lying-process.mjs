// A GPU process that has been taken over: it starts as one, and then answers each call as its options say.
import { Socket } from "node:net";

const { backend: manner } = JSON.parse(process.argv[2]);
const pipe = new Socket({ fd: 3 });
const limits = { bindingBytes: 2 ** 27, bufferBytes: 2 ** 30, bindings: 8, workgroups: 65_535 };
const adapter = {
  vendor: "v",
  architecture: "a",
  device: "d",
  description: "",
  isSoftware: true,
  runtime: "r",
};
const done = {
  kind: "done",
  compileMs: 0,
  uploadMs: 0,
  kernelMs: 0,
  downloadMs: 0,
  uploadedBytes: 0,
  residentBytes: 0,
  kept: [],
};

function say(message, body = Buffer.alloc(0)) {
  const head = Buffer.from(JSON.stringify(message));
  const sizes = Buffer.alloc(8);
  sizes.writeUInt32LE(head.byteLength, 0);
  sizes.writeUInt32LE(body.byteLength, 4);
  pipe.write(Buffer.concat([sizes, head, body]));
}

const answers = {
  more: (call) => say({ kind: "bytes", call }, Buffer.alloc(1_000_000)),
  less: (call) => say({ ...done, call }),
  noise: () => pipe.write(Buffer.alloc(4096, 0x7b)),
  strange: (call) => say({ kind: "surrender", call }),
  silence: () => pipe.end(),
  others: (call) => {
    for (let other = 0; other < 50; other++) if (other !== call) say({ ...done, call: other });
    for (const key of ["__proto__", "constructor"]) say({ kind: "dropped", keys: [key] });
    say({ kind: "bytes", call }, Buffer.alloc(40));
    say({ ...done, call, kept: ["x", "y"] });
  },
};

say({ kind: "ready", adapter, limits, probeMs: 1 });
let answered = false;
pipe.on("data", () => {
  if (answered) return;
  answered = true;
  answers[manner](0);
});
