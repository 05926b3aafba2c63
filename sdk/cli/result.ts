/** A job's result on stdout: a file's root, groups as two columns, a value as JSON, or bytes. */
import type { JobResult, PacketFS } from "../packetfs.ts";
import { printable } from "./format.ts";
import type { Session } from "./session.ts";
import type { Column } from "./table.ts";

const GROUP_COLUMNS: readonly Column[] = [{ title: "KEY", shrinks: true }, { title: "VALUE" }];

export async function writeResult(session: Session, pfs: PacketFS, result: JobResult): Promise<void> {
  const { output, signal } = session;
  const { job, yields, value, file, statistics } = result;
  if (output.json) return output.object({ job, yields, value, file, statistics });
  if (file?.name !== undefined) return output.line(`${file.root}  ${printable(file.name)}`);
  if (file !== undefined) {
    output.carriesBytes = true;
    for await (const piece of pfs.get(file.root, { signal })) {
      await output.write(piece);
      if (output.readerGone.aborted) return;
    }
    return;
  }
  if (yields === "groups" && isPairs(value)) {
    return output.list(
      GROUP_COLUMNS,
      value.map(([key, of]) => ({ json: {}, cells: [printable(key), cell(of)] })),
    );
  }
  await output.line(JSON.stringify(value ?? null, null, output.isTerminal ? 2 : undefined));
}

function isPairs(value: unknown): value is [string, unknown][] {
  return Array.isArray(value) && value.every((pair) => Array.isArray(pair) && typeof pair[0] === "string");
}

/** Text as it is, everything else as JSON. */
function cell(value: unknown): string {
  return typeof value === "string" ? printable(value) : (JSON.stringify(value) ?? "null");
}
