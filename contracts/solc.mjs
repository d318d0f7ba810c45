#!/usr/bin/env node
// npm's solc with the command line that forge expects of a compiler: `--version`, and `--standard-json` on standard input.
// forge passes every source in the input, so what else it says about paths does not matter.

import { readFileSync } from "node:fs";
import solc from "solc";

if (process.argv.includes("--standard-json")) {
  process.stdout.write(solc.compile(readFileSync(0, "utf8")));
} else {
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}`);
}
