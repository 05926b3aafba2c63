/// <reference types="node" preserve="true" />
/** Everything that a program which uses PacketFS imports. What a program *for* PacketFS may import is program.ts. */

// Opening a store, or connecting to a hub: both give a PacketFS.
export { openLocal } from "./local.ts";
export { connect } from "./remote.ts";

// Writing programs of 32 bytes, which need no sandbox.
export { code } from "./code/code.ts";
export { PacketCode } from "./code/builders.ts";
export { parseCode } from "./code/parse.ts";

// Writing programs.
export {
  block,
  blocks,
  bytes,
  columns,
  csv,
  defineKernel,
  defineProgram,
  f32,
  i32,
  jsonLines,
  lines,
  matrix,
  records,
  shared,
  top,
  u32,
  wasmProgram,
} from "./program.ts";
export { bundleProgram } from "./programs/bundle.ts";

// Errors: match them by code.
export { errorToJson, hasCode, PacketfsError } from "../packets/errors.ts";
export { SdkError, SdkErrorCode, UsageError } from "./errors.ts";

// Packets, for those who make or read them themselves.
export { disassemble, packetToJson } from "../packets/disassemble.ts";
export { refFromHex, refToHex } from "../packets/digest.ts";
export { faultErrorCode } from "../packets/faults.ts";
export { Flag, Op, PACKET_BYTES } from "../packets/layout.ts";
export { decodePacket, encodeFrame, packetCount } from "../packets/packet.ts";

export type {
  Engine,
  FileInfo,
  FileKind,
  FileSource,
  GcReport,
  GetFileOptions,
  GetFileResult,
  GetOptions,
  JobEvent,
  JobInfo,
  JobPart,
  JobResult,
  JobStatistics,
  KernelReport,
  ExecStreamOptions,
  FrameSource,
  LaneInfo,
  LanesInfo,
  LanesOptions,
  LaneState,
  LaneUse,
  LoadedProgram,
  LoadOptions,
  MachineLanes,
  MaintenanceOptions,
  NodeInfo,
  PacketFS,
  ProgramBundle,
  ProgramSource,
  ProgressStep,
  PutOptions,
  PutResult,
  PutTreeOptions,
  PutTreeResult,
  RepairEvent,
  RunOptions,
  StreamPart,
  SyncTreeOptions,
  SyncTreeResult,
  TransferCost,
  TransferInfo,
  Tree,
  TreeDifference,
  TreeEntryInfo,
  TreeRule,
  VerifyReport,
  WallState,
  WriteTreeOptions,
  WriteTreeResult,
} from "./packetfs.ts";
export type {
  Block,
  BytesContext,
  BytesProgram,
  ColumnsRecord,
  CsvOptions,
  Dimensions,
  GroupsContext,
  GroupsProgram,
  JobArgs,
  JobValue,
  KernelFunction,
  KernelScope,
  ListProgram,
  Matrix,
  ProgramContext,
  Reader,
  RowBlock,
  Shared,
  SharedArray,
  SharedMap,
  SharedSet,
  StoredFile,
  TensorOptions,
  TensorType,
  Top,
  TopBy,
  ValueProgram,
  WasmArgument,
  WasmModule,
  WasmProgram,
  WasmSignature,
} from "./program.ts";
export type { CodeValue } from "../packets/code/state.ts";
export type { ConnectOptions } from "./remote.ts";
export type { ConnectionEvent } from "../nodes/remote/lasting-link.ts";
export type { ErrorData, ErrorJson } from "../packets/errors.ts";
export type { Ref } from "../packets/digest.ts";
export type { Packet, PacketFields } from "../packets/packet.ts";
export type { Yields } from "../runtime/contracts/jobs.ts";
export type { ProgramLimits } from "../runtime/program/program.ts";
export type { ColumnType, ReaderSpec } from "../runtime/program/readers.ts";
