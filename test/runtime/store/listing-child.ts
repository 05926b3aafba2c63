/** Opens the store in the directory that it is given for reading and says as JSON which names it has, or why it has not. */
import { Store } from "../../../runtime/store/store.ts";
import { namesOf } from "./store-fixture.ts";

const [directory = ""] = process.argv.slice(2);
await using store = await Store.open(directory, { readOnly: true });
process.stdout.write(JSON.stringify(await namesOf(store)));
