// SPDX-License-Identifier: Apache-2.0
// Makes JavaScript of a program's TypeScript, with the lines of the program.
//
// Bun makes it, and leaves out what is empty: the lines are found again by the words that both texts
// have. A word that is taken for another one makes a wrong number in a trace and nothing worse, for
// new lines are only put where they mean nothing.
const { tokenizer } = require("./parser.js");

const { Set, String } = globalThis; // programs may have their own
let transpiler;
// Types come between two words that follow each other.
const NEAR = 4;
const WINDOW = 200;
const BREAKABLE = new Set([";", "{", "}", ",", "(", "["]);

// { word, line, label, start, end }; all but names, keywords, strings and numbers have no word.
function tokens(text) {
	const found = [];
	for (const { type, value, start, end, loc } of tokenizer(text, { ecmaVersion: "latest", locations: true })) {
		const isWord = type.keyword !== undefined || ["name", "string", "num"].includes(type.label);
		found.push({ word: isWord ? String(value) : "", line: loc.start.line, label: type.label, start, end });
	}
	return found;
}

// Where `word` is from `at` on, close by or followed by `next`; or -1.
function find(words, at, word, next) {
	for (let i = at; i < words.length && i < at + WINDOW; i++) {
		if (words[i].word !== word) continue;
		if (i < at + NEAR || words.slice(i + 1, i + 1 + 2 * NEAR).some((other) => other.word === next)) return i;
	}
	return -1;
}

// For each of the words of `made` its line in the text of `words`; 0: not found.
function lines(made, words) {
	let at = 0;
	return made.map((token, i) => {
		const found = find(words, at, token.word, made[i + 1]?.word);
		if (found < 0) return 0;
		at = found + 1;
		return words[found].line;
	});
}

function realign(text, made) {
	const isWord = (token) => token.word !== "";
	const all = tokens(made);
	const wanted = lines(all.filter(isWord), tokens(text).filter(isWord));
	const parts = [];
	let line = 1, end = 0, before = ";";
	for (const token of all) {
		const gap = made.slice(end, token.start);
		const missing = (isWord(token) ? wanted.shift() : 0) - line;
		const isBlank = gap.trim() === "";
		if (isBlank && missing > 0 && BREAKABLE.has(before)) parts.push("\n".repeat(missing));
		else parts.push(isBlank && gap !== "" ? " " : gap);
		parts.push(made.slice(token.start, token.end));
		for (const part of parts.slice(-2)) line += part.split("\n").length - 1;
		end = token.end;
		before = token.label;
	}
	return parts.join("") + made.slice(end);
}

// Throws what Bun throws for text that is neither.
exports.toJavaScript = function (text) {
	transpiler ??= new Bun.Transpiler({ loader: "ts", target: "node", deadCodeElimination: false });
	// Bun puts its own idea of these in front.
	const made = transpiler.transformSync(text).replace(/^var (__dirname|__filename) = .*\n/, "");
	try {
		return realign(text, made);
	} catch {
		return made; // with words that only a parser tells apart
	}
};
