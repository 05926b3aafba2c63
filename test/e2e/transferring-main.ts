/** A client that stores a file at a hub or fetches one, however long the hub is away, and is killed meanwhile. */
import { connect } from "../../sdk/index.ts";

const [token = "", direction = "", name = "", path = ""] = process.argv.slice(2);
await using pfs = await connect(token, { reconnectMs: 600_000 });
if (direction === "put") await pfs.put({ path }, { name });
else await pfs.getFile(name, path);
