// Serves one Node.js function by the contract of Knative's faas-js-runtime; needs nothing but Node itself.
//
// `node server.js FOLDER`: the folder's package.json names the main file, which exports `handle` (or is a
// function), and perhaps `init`, `shutdown`, `liveness`, `readiness`, `cors`.
'use strict';

const http = require('node:http');
const net = require('node:net');
const path = require('node:path');

const LIVENESS = process.env.LIVENESS_URL || '/health/liveness';
const READINESS = process.env.READINESS_URL || '/health/readiness';
const LEVELS = { trace: 10, debug: 20, info: 30, warn: 40, error: 50, fatal: 60, silent: 100 };
const NEW_MS = 1000;
const BODY_LIMIT = Number(process.env.FUNC_BODY_LIMIT) || 1048576;

/** Lines of JSON on standard output, as pino writes them. */
class Logger {
  constructor(level) {
    this.least = LEVELS[level] || LEVELS.warn;
  }

  write(level, args) {
    if (LEVELS[level] < this.least) return;
    const [first, ...rest] = args;
    const isObject = typeof first === 'object' && first !== null;
    const fields = first instanceof Error ? { err: { message: first.message, stack: first.stack } } : isObject ? first : {};
    const words = isObject ? rest : args;
    const msg = words.map((word) => (typeof word === 'string' ? word : JSON.stringify(word))).join(' ');
    process.stdout.write(JSON.stringify({ level: LEVELS[level], time: Date.now(), pid: process.pid, ...fields, msg }) + '\n');
  }
}
for (const level of Object.keys(LEVELS)) {
  if (level !== 'silent') Logger.prototype[level] = function log(...args) { this.write(level, args); };
}

/** An event where the function has no package `cloudevents` of its own; the same fields. */
class PlainEvent {
  constructor(fields) {
    Object.assign(this, { specversion: '1.0', id: require('node:crypto').randomUUID() }, fields);
    for (const name of ['source', 'type']) {
      if (!this[name]) throw new TypeError(`invalid payload: the attribute ${name} is missing`);
    }
  }

  toJSON() {
    return { ...this };
  }
}

/** The class of events: that of the function's own package, if it has one. */
function eventClass(folder) {
  try {
    return require(require.resolve('cloudevents', { paths: [folder] })).CloudEvent;
  } catch (error) {
    if (error.code === 'MODULE_NOT_FOUND') return PlainEvent;
    throw error;
  }
}

class Refusal extends Error {
  constructor(statusCode, message) {
    super(message);
    this.statusCode = statusCode;
  }
}

function isJson(type) {
  return /^[^;]*[/+]json\s*(;|$)/i.test(type || '');
}

function parsedJson(text, what) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Refusal(400, `${what} is not JSON: ${error.message}`);
  }
}

/** The event of a request, or undefined. */
function decoded(headers, raw, CloudEvent) {
  const type = headers['content-type'] || '';
  let fields;
  if (/^application\/cloudevents(\+|;|$)/i.test(type)) {
    fields = parsedJson(raw.toString('utf8'), 'the event');
  } else if (headers['ce-id'] || headers['ce-specversion'] || headers['ce-type']) {
    fields = {};
    for (const [name, value] of Object.entries(headers)) {
      if (name.startsWith('ce-')) fields[name.slice(3)] = unescaped(value);
    }
    if (type) fields.datacontenttype = type;
    if (raw.length) {
      if (!type || isJson(type)) fields.data = parsedJson(raw.toString('utf8'), 'the data');
      else if (/^text\//i.test(type)) fields.data = raw.toString('utf8');
      else fields.data_base64 = raw.toString('base64');
    }
  } else {
    return undefined;
  }
  for (const name of ['specversion', 'id', 'source', 'type']) {
    if (!fields[name]) throw new Refusal(400, `no CloudEvent: the attribute ${name} is missing`);
  }
  if (fields.specversion !== '1.0' && fields.specversion !== '0.3') {
    throw new Refusal(406, `invalid spec version ${fields.specversion}`);
  }
  try {
    return new CloudEvent(fields);
  } catch (error) {
    throw new Refusal(400, `no CloudEvent: ${error.message}`);
  }
}

function unescaped(value) {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

/** Headers and body of an event, in binary mode. */
function encoded(event) {
  const fields = typeof event.toJSON === 'function' ? event.toJSON() : { ...event };
  const { data, data_base64: base64, datacontenttype, ...attributes } = fields;
  const headers = {};
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) headers[`ce-${name}`] = escaped(String(value));
  }
  let type = datacontenttype;
  let body = '';
  if (base64 !== undefined) {
    body = Buffer.from(base64, 'base64');
    type = type || 'application/octet-stream';
  } else if (data !== undefined && data !== null) {
    const isText = typeof data === 'string' && type && !isJson(type);
    body = isText || Buffer.isBuffer(data) ? data : JSON.stringify(data);
    type = type || 'application/json; charset=utf-8';
  }
  if (type) headers['content-type'] = type;
  return { headers, body };
}

function escaped(value) {
  return value.replace(/[^\x21\x23\x24\x26-\x7e]/gu, encodeURIComponent);
}

function isEvent(value, CloudEvent) {
  return value instanceof CloudEvent || value instanceof PlainEvent || value?.constructor?.name === 'CloudEvent';
}

/** What the function is given of a request. */
class Context {
  constructor(request, url, raw, body, log, CloudEvent) {
    this.body = body;
    this.rawBody = raw.length ? raw.toString('utf8') : undefined;
    this.query = query(url.searchParams);
    this.headers = { ...request.headers };
    this.method = request.method;
    this.httpVersion = request.httpVersion;
    this.httpVersionMajor = request.httpVersionMajor;
    this.httpVersionMinor = request.httpVersionMinor;
    this.contentType = request.headers['content-type'];
    Object.assign(this, this.query);
    this.log = log;
    Object.defineProperty(this, 'eventClass', { value: CloudEvent, enumerable: false });
  }

  cloudEventResponse(data) {
    const fields = { data };
    const CloudEvent = this.eventClass;
    const builder = {};
    for (const name of ['id', 'source', 'type', 'version']) {
      builder[name] = (value) => {
        fields[name === 'version' ? 'specversion' : name] = value;
        return builder;
      };
    }
    builder.response = () => new CloudEvent(fields);
    return builder;
  }
}

function query(parameters) {
  const values = {};
  for (const name of parameters.keys()) {
    const all = parameters.getAll(name);
    values[name] = all.length > 1 ? all : all[0];
  }
  return values;
}

function parsedBody(type, raw) {
  if (!raw.length) return undefined;
  if (isJson(type)) return /cloudevents/i.test(type) ? raw.toString('utf8') : parsedJson(raw.toString('utf8'), 'the body');
  if (/^text\/plain/i.test(type || '')) return raw.toString('utf8');
  if (/^application\/x-www-form-urlencoded/i.test(type || '')) return query(new URLSearchParams(raw.toString('utf8')));
  return raw;
}

async function collected(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > BODY_LIMIT) throw new Refusal(413, 'the body is larger than FUNC_BODY_LIMIT allows');
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** Status, headers and body of what a function returned. */
function answer(returned, headers, CloudEvent) {
  if (isEvent(returned, CloudEvent)) {
    const event = encoded(returned);
    return { status: 200, headers: { ...headers, ...event.headers }, body: event.body };
  }
  if (!returned) return { status: 204, headers: { ...headers, 'content-type': 'text/plain' }, body: '' };
  if (typeof returned === 'string') {
    return { status: 200, headers: { ...headers, 'content-type': 'text/plain; charset=utf-8' }, body: returned };
  }
  const named = {};
  if (typeof returned.headers === 'object' && returned.headers !== null) {
    for (const [name, value] of Object.entries(returned.headers)) named[name.toLowerCase()] = value;
  }
  const status = returned.statusCode || 200;
  let body = returned;
  if (returned.body !== undefined) body = returned.body;
  else if (returned.statusCode || returned.headers) body = Buffer.isBuffer(returned) ? returned : '';
  const isBytes = Buffer.isBuffer(body) || body instanceof Uint8Array;
  const usual = isBytes ? 'application/octet-stream' : 'application/json; charset=utf-8';
  const all = { 'content-type': usual, ...headers, ...named };
  if (isBytes || typeof body === 'string') return { status, headers: all, body };
  return { status, headers: all, body: JSON.stringify(body) };
}

function allowedOrigin(cors, origin) {
  if (!cors) return { 'access-control-allow-origin': '*' };
  return cors().includes(origin) ? { 'access-control-allow-origin': origin } : {};
}

function reply(response, { status, headers, body }) {
  response.writeHead(status, headers);
  response.end(status === 204 || status === 304 ? undefined : body);
}

function fail(response, log, error) {
  const isRefusal = error instanceof Refusal;
  if (!isRefusal) log.error(`Error processing user function: ${error?.stack || error}`);
  const status = Number.isInteger(error?.statusCode) ? error.statusCode : Number.isInteger(error?.code) ? error.code : 500;
  if (response.headersSent) return response.destroy();
  if (isRefusal && status === 413) response.setHeader('connection', 'close');
  return reply(response, {
    status: status >= 200 && status <= 599 ? status : 500,
    headers: { 'content-type': 'text/plain; charset=utf-8' },
    body: String(error?.message ?? error),
  });
}

async function health(check, request, response) {
  const returned = typeof check === 'function' ? await check(request, response) : undefined;
  if (response.headersSent) return;
  const isWell = returned !== false;
  reply(response, {
    status: isWell ? 200 : 503,
    headers: { 'content-type': 'text/plain; charset=utf-8' },
    body: typeof returned === 'string' ? returned : isWell ? 'OK' : 'not well',
  });
}

/** A server of a function, which does not listen yet. */
function create(exported, folder) {
  const user = typeof exported === 'function' ? { handle: exported } : exported?.default?.handle ? exported.default : exported;
  const log = new Logger(process.env.FUNC_LOG_LEVEL || user.logLevel || 'warn');
  const CloudEvent = eventClass(folder);
  const live = user.liveness?.path || LIVENESS;
  const ready = user.readiness?.path || READINESS;
  const ending = { isEnding: false };

  async function invoke(request, response, url) {
    const raw = await collected(request);
    const usual = {
      'access-control-allow-methods': 'OPTIONS, GET, DELETE, POST, PUT, HEAD, PATCH',
      ...allowedOrigin(user.cors, request.headers.origin),
    };
    if (request.method === 'OPTIONS') {
      return reply(response, { status: 204, headers: { ...usual, 'access-control-allow-headers': '*' }, body: '' });
    }
    const event = decoded(request.headers, raw, CloudEvent);
    const body = parsedBody(request.headers['content-type'], raw);
    const context = new Context(request, url, raw, body, log, CloudEvent);
    if (event) context.cloudevent = event;
    const scope = Object.freeze({});
    const returned = await user.handle.call(scope, context, event || body);
    return reply(response, answer(returned, usual, CloudEvent));
  }

  const server = http.createServer({ keepAliveTimeout: 0 }, (request, response) => {
    const url = new URL(request.url, 'http://function');
    if (ending.isEnding) response.setHeader('connection', 'close');
    let answered;
    if (url.pathname === live) answered = health(user.liveness, request, response);
    else if (url.pathname === ready) answered = health(user.readiness, request, response);
    else answered = invoke(request, response, url);
    answered.catch((error) => fail(response, log, error));
  });
  server.requestTimeout = 0;
  return { server, user, ending };
}

async function main(folder) {
  const exported = await load(folder);
  const handle = typeof exported === 'function' ? exported : exported?.handle || exported?.default?.handle;
  if (typeof handle !== 'function') {
    process.stderr.write('error: Function must export a handle function\n');
    process.exit(1);
  }
  const { server, user, ending } = create(exported, folder);
  if (typeof user.init === 'function') await user.init();
  const end = (status) => {
    if (ending.isEnding) return;
    ending.isEnding = true;
    // Who has connected already is served: first comes what the kernel holds, then a second for its requests.
    setImmediate(() => setImmediate(() => {
      net.Server.prototype.close.call(server, async () => {
        if (typeof user.shutdown === 'function') await user.shutdown();
        process.exit(status);
      });
      setTimeout(() => server.closeIdleConnections(), NEW_MS);
    }));
  };
  process.on('SIGTERM', () => end(0));
  process.on('SIGINT', () => end(0));
  const [host, port] = address();
  server.on('error', (error) => {
    if (host === '::' && ['EAFNOSUPPORT', 'EADDRNOTAVAIL'].includes(error.code)) {
      server.listen({ host: '0.0.0.0', port }); // a machine without IPv6
      return;
    }
    process.stderr.write(`error: cannot listen at ${host}:${port}: ${error.message}\n`);
    process.exit(1);
  });
  server.listen({ host, port });
}

async function load(folder) {
  const file = require.resolve(path.resolve(folder));
  try {
    return require(file);
  } catch (error) {
    if (error.code !== 'ERR_REQUIRE_ESM') throw error;
    return import(require('node:url').pathToFileURL(file));
  }
}

function address() {
  const named = (process.env.LISTEN_ADDRESS || '').split(',')[0].trim();
  if (!named) return ['::', Number(process.env.PORT) || 8080];
  const at = named.lastIndexOf(':');
  return [named.slice(0, at).replace(/^\[|\]$/g, '') || '::', Number(named.slice(at + 1))];
}

module.exports = { create, Refusal };
if (require.main === module) {
  main(process.argv[2] || '.').catch((error) => {
    process.stderr.write(`error: ${error.stack || error}\n`);
    process.exit(1);
  });
}
