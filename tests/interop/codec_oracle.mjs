// Judges JSON texts as npm @atproto does. In: a JSON list of texts. Out: for each {"cbor": hex} or {"error": text}.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { readFileSync } from "node:fs";

const require = createRequire(join(process.env.REF_DIR, "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { lexParse, lexStringify } = await load("@atproto/lex-json");
const { encode, decode } = await load("@atproto/lex-cbor");

const answers = JSON.parse(readFileSync(0, "utf8")).map((text) => {
  try {
    const cbor = encode(lexParse(text, { strict: true }));
    return { cbor: Buffer.from(cbor).toString("hex"), json: lexStringify(decode(cbor)) };
  } catch (problem) {
    return { error: String(problem) };
  }
});
console.log(JSON.stringify(answers));
