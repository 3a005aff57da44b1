// SPDX-License-Identifier: Apache-2.0
// Loads acorn with the global objects of now, whatever programs put in their place later.
const { readFileSync } = require("node:fs");

const names = ["Array", "Error", "Math", "Object", "RegExp", "Set", "String", "SyntaxError", "isNaN", "parseFloat", "parseInt", "BigInt"];
const text = readFileSync(`${__dirname}/acorn.js`, "utf8");
const start = new Function("exports", "module", ...names, text);

start(exports, module, ...names.map((name) => globalThis[name]));
