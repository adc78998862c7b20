// Reads an AsyncAPI document from standard input and prints a line for each thing that
// the parser finds wrong with it, and for each example that does not agree with its schema,
// of which the parser says nothing.
const { Parser } = require("@asyncapi/parser");
const { default: Ajv } = require("ajv");
const formats = require("ajv-formats");
const { readFileSync } = require("fs");

const error = 0, warning = 1;

function checkExamples(document) {
  const ajv = formats(new Ajv({ strict: false }));
  for (const message of document.components().messages().all()) {
    const agrees = ajv.compile(message.payload().json());
    for (const example of message.examples().all()) {
      if (!agrees(example.payload())) {
        console.log(`examples of ${message.name()}: ${example.name()}: ${ajv.errorsText(agrees.errors)}`);
      }
    }
  }
}

new Parser().parse(readFileSync(0, "utf8")).then(({ document, diagnostics }) => {
  for (const d of diagnostics) {
    if (d.severity === error || d.severity === warning) {
      console.log(`${d.code} ${d.path.join(".")}: ${d.message}`);
    }
  }
  if (document) {
    checkExamples(document);
    console.log(`read: ${document.channels().length} channels, ${document.operations().length} operations`);
  }
});
