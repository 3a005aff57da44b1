// SPDX-License-Identifier: Apache-2.0
// Makes of a program's text what can be run in the global scope again and again: what its top level
// declares is assigned to properties of the global object, and lines stay where they are.
//
// acorn parses the text, which is then edited in place: `const x = 1` becomes `void(x = 1);`. Functions
// go to a script of their own, that they are there before all else; imports are told apart.
const { parse } = require("./parser.js");
const { toJavaScript } = require("./typescript.js");

const { Object, Set } = globalThis; // programs may have their own

const OPTIONS = {
	ecmaVersion: "latest",
	sourceType: "script",
	allowAwaitOutsideFunction: true,
	allowImportExportEverywhere: true,
};

// What stands for `import.meta`, which only modules have; as long as that is.
const IMPORT_META = "import_meta";

// The names that a pattern binds.
function bound(pattern) {
	switch (pattern?.type) {
		case "Identifier":
			return [pattern.name];
		case "ObjectPattern":
			return pattern.properties.flatMap((property) => bound(property.value ?? property.argument));
		case "ArrayPattern":
			return pattern.elements.flatMap(bound);
		case "AssignmentPattern":
			return bound(pattern.left);
		case "RestElement":
			return bound(pattern.argument);
		default:
			return [];
	}
}

function blank(text) {
	return text.replace(/[^\n]/g, " ");
}

// Pieces of a text to be replaced; those at the same place come out in the order they were told.
class Editor {
	constructor(text) {
		this.text = text;
		this.edits = [];
	}

	replace(start, end, text) {
		this.edits.push({ start, end, text });
	}

	insert(at, text) {
		this.replace(at, at, text);
	}

	blank(start, end) {
		this.replace(start, end, blank(this.text.slice(start, end)));
	}

	// A statement; what stands before it still ends there.
	remove(start, end) {
		this.replace(start, end, ";" + blank(this.text.slice(start + 1, end)));
	}

	// A parenthesis behind a statement's expression.
	close(end) {
		if (this.text[end - 1] === ";") this.insert(end - 1, ")");
		else this.insert(end, ");");
	}

	result() {
		const parts = [];
		let at = 0;
		for (const { start, end, text } of this.edits.sort((a, b) => a.start - b.start)) {
			parts.push(this.text.slice(at, start), text);
			at = end;
		}
		return parts.join("") + this.text.slice(at);
	}
}

// What the whole of a tree says about the program.
class Survey {
	constructor(text) {
		this.text = text; // with IMPORT_META
		this.used = new Set(); // names, in whatever scope
		this.variables = []; // { node, isHead }: those that blocks declare for the whole program
		this.isAsync = false; // only a function can hold it
		this.isTypeScript = false; // it means something else there
	}

	visitVariables(node, parent, isInside) {
		if (node.kind === "await using" && !isInside) this.isAsync = true;
		if (node.kind !== "var" || isInside || /^(Program|Export)/.test(parent.type)) return;
		this.variables.push({ node, isHead: /^For/.test(parent.type) && parent.body !== node });
	}

	// `a<b>(c)` compares, or calls with a type.
	visitBinary(node) {
		const between = this.text.slice(node.left.end, node.right.start);
		if (node.operator !== ">" || node.left.type !== "BinaryExpression") return;
		if (between.includes("(") || node.right.type === "TemplateLiteral") this.isTypeScript = true;
	}

	visit(node, parent, isInside) {
		switch (node.type) {
			case "Identifier":
				this.used.add(node.name);
				return;
			case "ImportDeclaration":
				return;
			case "MetaProperty":
				if (node.meta.name === "import") this.text = this.text.slice(0, node.start) + IMPORT_META.padEnd(node.end - node.start) + this.text.slice(node.end);
				return;
			case "AwaitExpression":
				this.isAsync ||= !isInside;
				break;
			case "ForOfStatement":
				this.isAsync ||= node.await && !isInside;
				break;
			case "VariableDeclaration":
				this.visitVariables(node, parent, isInside);
				break;
			case "BinaryExpression":
				this.visitBinary(node);
				break;
		}
		this.visitChildren(node, isInside || /Function|StaticBlock/.test(node.type));
	}

	visitChildren(node, isInside) {
		for (const key in node) {
			if ((key === "property" || key === "key") && !node.computed && !node.shorthand) continue;
			for (const child of [node[key]].flat()) if (child?.type) this.visit(child, node, isInside);
		}
	}
}

// Makes the scripts of the statements of the top level.
class Scripts {
	constructor(text) {
		this.text = text;
		this.editor = new Editor(text);
		this.names = new Set();
		this.imports = []; // { source, attributes, names: [[imported, local]] }
		this.functions = []; // nodes
	}

	declare(pattern) {
		for (const name of bound(pattern)) this.names.add(name);
	}

	// Becomes an expression that assigns; keywords are replaced by what is as long.
	assign(node) {
		this.editor.replace(node.start, node.start + node.kind.length, node.kind === "const" ? "void(" : "!( ");
		for (const { id, init } of node.declarations) {
			this.declare(id);
			if (!init && node.kind === "let") this.editor.insert(id.end, "=void 0");
		}
		this.editor.close(node.end);
	}

	addVariables({ node, isHead }) {
		if (!isHead) return this.assign(node);
		this.editor.blank(node.start, node.start + node.kind.length);
		for (const { id } of node.declarations) this.declare(id);
	}

	addImport(node) {
		const nameOf = (name) => name.name ?? name.value;
		const imported = { ImportDefaultSpecifier: () => "default", ImportNamespaceSpecifier: () => "*", ImportSpecifier: (one) => nameOf(one.imported) };
		const specifiers = node.type === "ImportDeclaration" ? node.specifiers : [];
		const names = specifiers.map((one) => [imported[one.type](one), one.local.name]);
		const attributes = (node.attributes ?? []).map(({ key, value }) => [nameOf(key), value.value]);
		for (const [, local] of names) this.names.add(local);
		this.imports.push({ source: node.source.value, attributes: Object.fromEntries(attributes), names });
		this.editor.remove(node.start, node.end);
	}

	// A function, a class or variables, with `export` in front from `start` on.
	addDeclaration(node, start) {
		if (node.type === "FunctionDeclaration") {
			this.names.add(node.id.name);
			this.functions.push(node);
			this.editor.remove(start, node.end);
			return;
		}
		this.editor.blank(start, node.start);
		if (node.type === "VariableDeclaration") return this.assign(node);
		this.names.add(node.id.name);
		this.editor.insert(node.start, `void(${node.id.name}=`);
		this.editor.insert(node.end, ");");
	}

	addDefault(node) {
		const { start, end, declaration } = node;
		if (declaration.id && declaration.type.endsWith("Declaration")) return this.addDeclaration(declaration, start);
		this.editor.replace(start, declaration.start, "void " + blank(this.text.slice(start + 5, declaration.start)));
		if (declaration.type.endsWith("Declaration")) this.editor.insert(end, ";");
	}

	addStatement(node) {
		switch (node.type) {
			case "ImportDeclaration":
			case "ExportAllDeclaration":
				return this.addImport(node);
			case "ExportNamedDeclaration":
				if (node.source) return this.addImport(node);
				return node.declaration ? this.addDeclaration(node.declaration, node.start) : this.editor.remove(node.start, node.end);
			case "ExportDefaultDeclaration":
				return this.addDefault(node);
			case "VariableDeclaration":
				return this.assign(node);
			case "FunctionDeclaration":
			case "ClassDeclaration":
				return this.addDeclaration(node, node.start);
		}
	}

	// All but functions and directives is blank.
	functionScript(statements) {
		const kept = [...statements.filter((node) => node.directive), ...this.functions];
		const parts = [];
		let at = 0;
		for (const { start, end } of this.functions.length > 0 ? kept : []) {
			parts.push(blank(this.text.slice(at, start)), this.text.slice(start, end));
			at = end;
		}
		return parts.join("");
	}
}

function read(text) {
	const tree = parse(text, OPTIONS);
	const survey = new Survey(text);
	survey.visit(tree, tree, false);
	return { tree, survey };
}

function readEither(text) {
	let first;
	try {
		const result = read(text);
		if (!result.survey.isTypeScript) return result;
	} catch (error) {
		first = error;
	}
	const made = toJavaScript(text);
	try {
		return read(made);
	} catch (error) {
		throw first ?? error;
	}
}

// Of acorn or of Bun, which tells of several.
function syntaxError(error) {
	const { message, loc, position } = error.errors?.[0] ?? error;
	const at = loc ? { line: loc.line, column: loc.column + 1 } : { line: position?.line ?? 1, column: position?.column ?? 1 };
	return { message: message.replace(/ \(\d+:\d+\)$/, ""), at };
}

// Throws { message, at: { line, column } }. Otherwise
//   imports    what is to be imported first: { source, attributes, names: [[imported, local]] }
//   names      that the program declares
//   used       names that it uses, declared or not
//   functions  the first script, or ""
//   body       the second one
//   isFunction its value is one, which is to be called
//   isShown    its value is that of an expression at the end
exports.prepare = function (text) {
	let program;
	try {
		program = readEither(text.replace(/^#!/, "//"));
	} catch (error) {
		throw syntaxError(error);
	}
	const { tree, survey } = program;
	const scripts = new Scripts(survey.text);
	const last = tree.body.findLast((node) => node.type !== "EmptyStatement");
	const isShown = last?.type === "ExpressionStatement";
	for (const variables of survey.variables) scripts.addVariables(variables);
	for (const statement of tree.body) scripts.addStatement(statement);
	if (survey.isAsync && isShown) {
		scripts.editor.insert(last.start, "return(");
		scripts.editor.close(last.end);
	}
	const body = scripts.editor.result();
	const { names, imports } = scripts;
	return {
		imports,
		names,
		used: survey.used,
		functions: scripts.functionScript(tree.body),
		body: survey.isAsync ? `(async()=>{${body}\n})` : body,
		isFunction: survey.isAsync,
		isShown,
	};
};
exports.IMPORT_META = IMPORT_META;
