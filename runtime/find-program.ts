/** Where programs of the system are: in its own folders, whatever PATH says. */
import { existsSync } from "node:fs";

export function findProgram(name: string): string | undefined {
  return ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map((folder) => `${folder}/${name}`).find(existsSync);
}
