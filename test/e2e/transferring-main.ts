/** A client that stores a file or directory at a hub or fetches one, however long the hub is away, and is killed meanwhile. */
import { statSync } from "node:fs";
import { connect } from "../../sdk/index.ts";

const [token = "", direction = "", name = "", path = "", cache] = process.argv.slice(2);
await using pfs = await connect(token, {
  reconnectMs: 600_000,
  cache: cache === undefined ? undefined : { directory: cache },
});
if (direction === "get") {
  if (cache === undefined) await pfs.getFile(name, path);
  else await (await pfs.openTree(name)).write(path, { sync: true });
} else if (statSync(path).isDirectory()) await pfs.putTree(path, { name });
else await pfs.put({ path }, { name });
