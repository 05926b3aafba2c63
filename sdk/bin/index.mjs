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
  blocks,
  bundleProgram,
  bytes,
  code,
  columns,
  connect,
  csv,
  decodePacket,
  defineProgram,
  disassemble,
  encodeFrame,
  errorToJson,
  faultErrorCode,
  hasCode,
  jsonLines,
  lines,
  openLocal,
  packetCount,
  packetToJson,
  parseCode,
  records,
  refFromHex,
  refToHex,
  shared,
  top,
  wasmProgram,
} = requireFile(builtFile("index.cjs"));
