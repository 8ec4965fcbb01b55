// What npm says of records: { docs: [lexicon], cases: [[collection, value]] } on stdin; on stdout, for each case, the
// reason why it is refused or null, by @atproto/lexicon with these documents and by the schemas built into the reference
// PDS ("unknown" where it has none).
import { createRequire } from 'node:module'
const root = process.env.REF_DIR
const load = (name, from = root + '/package.json') => import(createRequire(from).resolve(name))
const pds = root + '/node_modules/@atproto/pds/dist/'
const { Lexicons, jsonToLex: toLegacy } = await load('@atproto/lexicon')
const { RecordSchema, walk, jsonToLex } = await load('@atproto/lex', pds + 'repo/prepare.js')
const builtIn = new Map(
  walk(await import(pds + 'lexicons/index.js')).filter((s) => s instanceof RecordSchema).map((s) => [s.$type, s]),
)
let input = ''
for await (const chunk of process.stdin) input += chunk
const { docs, cases } = JSON.parse(input)
const lexicons = new Lexicons(docs)
const reason = (attempt) => {
  try {
    attempt()
    return null
  } catch (error) {
    return String(error.message)
  }
}
const answers = cases.map(([collection, value]) => [
  reason(() => lexicons.assertValidRecord(collection, toLegacy(value))),
  builtIn.has(collection)
    ? reason(() => builtIn.get(collection).validate(jsonToLex(value), { path: ['record'] }))
    : 'unknown',
])
console.log(JSON.stringify(answers))
