// Details from the API which the feed does not carry: fetched when a view opens, and again as the ledger changes.
import { useEffect, useState } from './lib.js';
import * as api from './api.js';
import { store } from './store.js';

const AGAIN_MS = 5000;

/** {value, problem} of GET /api/`path`. While a view is open it is fetched again now and then where `live`. */
export function useDetail(path, live = true) {
  const [got, setGot] = useState({ value: null, problem: '' });
  const changes = live ? store.changes : 0;
  useEffect(() => {
    if (!path) return undefined;
    let open = true;
    const fetchNow = () =>
      api.get(path).then(
        (value) => open && setGot({ value, problem: '' }),
        (problem) => open && setGot((before) => ({ ...before, problem: problem.message })),
      );
    fetchNow();
    const timer = live && setInterval(fetchNow, AGAIN_MS);
    return () => {
      open = false;
      clearInterval(timer);
    };
  }, [path, changes]);
  return got;
}
