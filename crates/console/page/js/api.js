// The hub's HTTP API. Every failure is an ApiError whose message says what is wrong and what to do.

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let csrf = '';

async function call(method, path, body) {
  const headers = {};
  if (method !== 'GET' && csrf) headers['X-Sealcast-CSRF'] = csrf;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let answer;
  try {
    answer = await fetch(`/api/${path}`, { method, headers, body: body && JSON.stringify(body), cache: 'no-store' });
  } catch {
    throw new ApiError(0, 'unreachable', 'The hub does not answer. Is `sealcast up` running, and is the network there?');
  }
  const text = await answer.text();
  let json = null;
  try {
    json = text ? JSON.parse(text) : null;
  } catch {
    // Below: an answer that is not JSON is as good as none.
  }
  if (!answer.ok) {
    const { code = `http-${answer.status}`, message = `The hub answered ${answer.status}.` } = json?.error ?? {};
    throw new ApiError(answer.status, code, message);
  }
  return json;
}

export const get = (path) => call('GET', path);
export const post = (path, body = {}) => call('POST', path, body);

function keepSession(session) {
  csrf = session.csrf;
  return session;
}

export const session = async () => keepSession(await get('session'));
export const signIn = async (key) => keepSession(await post('session', { proof: await prove(key, SIGN_IN) }));
export const signOut = () => call('DELETE', 'session');

const SIGN_IN = 'sealcast console: sign in';
const utf8 = new TextEncoder();
const hex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('');

/** The token as a key which script can use but not read. */
export async function tokenKey(token) {
  if (!globalThis.crypto?.subtle) {
    throw new ApiError(0, 'insecure', 'The browser offers no cryptography here. Open the console by https, or on localhost.');
  }
  return crypto.subtle.importKey('raw', utf8.encode(token), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
}

const prove = async (key, text) => hex(await crypto.subtle.sign('HMAC', key, utf8.encode(text)));

/** Asks the operator's process to grant or revoke; resolves to the action's id. */
export async function act(key, { action, node, group, reason }) {
  const at = Date.now();
  const id = hex(crypto.getRandomValues(new Uint8Array(8)));
  const proof = await prove(key, ['sealcast console: action', action, node, group, reason, at, id].join('\n'));
  await post('actions', { action, node, group, reason, at, id, proof });
  return id;
}
