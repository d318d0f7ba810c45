// The libraries, under one roof: the rest of the page imports them from here.
import { Fragment, h, render } from '../vendor/preact.mjs';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from '../vendor/hooks.mjs';
import htm from '../vendor/htm.mjs';

export const html = htm.bind(h);
export { Fragment, render, useEffect, useLayoutEffect, useMemo, useRef, useState };
// uPlot comes as a classic script, which defines a global.
export const uPlot = globalThis.uPlot;
