// What `import … from "packetfs"` gets. Plain JavaScript that any Node can parse, so that one which is too old says so;
// what is exported is in sdk/index.ts.
import { builtFile, requireFile, whyTooOld } from "./built.mjs";

const tooOld = whyTooOld();
if (tooOld !== undefined) throw new Error(tooOld);

// Without await, so that CommonJS may require this.
export const {
  Flag,
  Op,
  PACKET_BYTES,
  PacketCode,
  PacketfsError,
  SdkError,
  SdkErrorCode,
  UsageError,
  block,
  blocks,
  bundleProgram,
  bytes,
  code,
  columns,
  connect,
  csv,
  decodePacket,
  defineKernel,
  defineProgram,
  disassemble,
  encodeFrame,
  errorToJson,
  f32,
  faultErrorCode,
  hasCode,
  i32,
  jsonLines,
  lines,
  matrix,
  openLocal,
  packetCount,
  packetToJson,
  parseCode,
  records,
  refFromHex,
  refToHex,
  shared,
  top,
  u32,
  wasmProgram,
} = requireFile(builtFile("index.cjs"));
