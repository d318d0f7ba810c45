import { html, useState } from '../lib.js';
import { signIn } from '../store.js';
import { Mark } from '../shell.js';

export function SignIn() {
  const [token, setToken] = useState('');
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    if (!token.trim()) return setProblem('Enter the token.');
    setBusy(true);
    try {
      await signIn(token.trim());
    } catch (failure) {
      setProblem(failure.status === 401 ? 'This token is not right. A newer one may have taken its place.' : failure.message);
      setBusy(false);
    }
  };
  return html`<main class="signin" id="main">
    <form class="card" onSubmit=${submit} noValidate>
      <div class="brand"><${Mark} /><span>Sealcast</span></div>
      <h1>Sign in to the console</h1>
      <p class="muted">Enter the token that <code>sealcast up</code>, <code>sealcast demo --serve</code> or, for operators, <code>sealcast operator</code> printed. It stays in this page: only a proof of it is sent.</p>
      <label for="token">Token</label>
      <input id="token" type="password" autocomplete="current-password" spellcheck=${false} autofocus value=${token}
        aria-invalid=${!!problem} aria-describedby="token-problem"
        onInput=${(event) => (setToken(event.currentTarget.value), setProblem(''))} />
      <p id="token-problem" class="problem" role="alert">${problem}</p>
      <button type="submit" class="primary" disabled=${busy}>${busy ? 'Signing in…' : 'Sign in'}</button>
      <p class="muted foot">The hub prints a reader’s token once, when it is first started. <code>sealcast console token</code> makes a new one.</p>
    </form>
  </main>`;
}
