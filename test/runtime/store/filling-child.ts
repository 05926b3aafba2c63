/** Puts files into a store until they do not fit any more, thrice, and says as JSON what became of it. */
import { errorToJson } from "../../../packets/errors.ts";
import { Store } from "../../../runtime/store/store.ts";
import { get, put, randomBytes } from "./store-fixture.ts";

const [directory = ""] = process.argv.slice(2);
const store = await Store.open(directory);
const codes: string[] = [];
const acknowledged: string[] = [];
for (let index = 0; index < 30 && codes.length < 3; index++) {
  try {
    await put(store, `f${index}`, randomBytes(`f${index}`, 700_000));
    acknowledged.push(`f${index}`);
  } catch (error) {
    codes.push(errorToJson(error).code);
  }
}
const before = (await get(store, "before")).byteLength;
process.stdout.write(JSON.stringify({ codes, acknowledged, before }));
await store.close().catch(() => {});
