// Looks at the documentation page of a running service in Chromium, as its readers do, and prints
// each thing that is wrong on a line of its own. Usage: node docs.mjs URL [FOLDER FOR SCREENSHOTS]
import { chromium } from 'playwright-core';

const [, , base, screenshots] = process.argv;
const problems = [];
const expect = (ok, what) => { if (!ok) problems.push(what); };

// contrast lists texts whose colour is too near to what is behind them (WCAG AA). It runs in the page.
const contrast = () => {
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(e).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility() || ['SCRIPT', 'STYLE'].includes(element.tagName)) continue;
    const [one, two] = [luminance(numbers(getComputedStyle(element).color)), luminance(behind(element))].sort((a, b) => b - a);
    if ((one + 0.05) / (two + 0.05) < 4.5) bad.push(`${element.tagName} ${walker.currentNode.textContent.trim().slice(0, 30)}`);
  }
  return [...new Set(bad)];
};

// watch notes what a page must not do: complain, or ask anybody else.
const watch = (page, where) => {
  const host = new URL(base).host;
  page.on('console', (m) => expect(m.type() !== 'error' || /status of 400/.test(m.text()), `${where}: console: ${m.text()}`));
  page.on('pageerror', (e) => expect(false, `${where}: ${e.message}`));
  page.on('request', (r) => expect(r.url().startsWith('data:') || new URL(r.url()).host === host, `${where}: a request to ${r.url()}`));
};

const send = async (form, fill) => {
  await fill(form);
  await form.locator('button', { hasText: 'Send' }).focus();
  await form.page().keyboard.press('Enter');
  await form.locator('.result .status').waitFor({ timeout: 10000 });
  return { status: await form.locator('.result .status').innerText(), body: await form.locator('.result > pre').innerText() };
};

const tryRequests = async (page, where) => {
  const list = page.locator('#listFlights form.try');
  let answer = await send(list, async () => {
    await list.locator('[data-part=field]').selectOption('origin');
    await list.locator('[data-part=value]').fill('SFO');
    await list.locator('[name=limit]').fill('2');
  });
  const rows = answer.status.startsWith('200') ? JSON.parse(answer.body).data : [];
  expect(rows.length === 2 && rows.every((r) => r.origin === 'SFO'), `${where}: list answered ${answer.status}: ${answer.body.slice(0, 200)}`);
  expect(await list.locator('.result details').count() === 1, `${where}: the headers of the answer are not shown`);

  const get = page.locator('#getFlights form.try');
  answer = await send(get, () => get.locator('[name=id]').fill(rows[0]?.id ?? ''));
  expect(answer.status.startsWith('200') && JSON.parse(answer.body).id === rows[0].id, `${where}: get answered ${answer.status}`);

  await list.locator('button.more').click();
  answer = await send(list, async () => {
    await list.locator('[data-part=field]').first().selectOption('delay_minutes');
    await list.locator('[data-part=op]').first().selectOption('gte');
    await list.locator('[data-part=value]').first().fill('soon');
  });
  expect(answer.status.startsWith('400') && /INVALID_PARAMETER/.test(answer.body), `${where}: a wrong value answered ${answer.status}`);
};

const browser = await chromium.launch({
  executablePath: process.env.LATAM_CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
try {
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [1280, 390]) {
      const where = `${colorScheme} ${width}`;
      const context = await browser.newContext({ colorScheme, viewport: { width, height: 844 } });
      const page = await context.newPage();
      watch(page, where);
      await page.goto(`${base}/docs`, { timeout: 15000 });
      await tryRequests(page, where);
      await page.evaluate(() => document.querySelectorAll('details').forEach((d) => { d.removeAttribute('name'); d.open = true; }));
      for (const text of await page.evaluate(contrast)) expect(false, `${where}: too little contrast: ${text}`);
      expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${where}: the page is wider than the window`);
      if (screenshots) await page.screenshot({ path: `${screenshots}/docs-${colorScheme}-${width}.png` });
      await context.close();
    }
  }
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  watch(page, 'without JavaScript');
  await page.goto(`${base}/docs`, { timeout: 15000 });
  const text = await page.locator('body').innerText();
  for (const want of ['listFlights', '/v1/datasets/flights/rows/{id}', 'delay_minutes', 'SCAN_REFUSED', 'curl ']) {
    expect(text.includes(want), `without JavaScript: ${want} is not there to read`);
  }
  expect(await page.locator('form:visible').count() === 0, 'without JavaScript: a form is shown that cannot work');
} catch (error) {
  problems.push(String(error));
} finally {
  await browser.close();
}
for (const line of problems) console.log(line);
process.exitCode = problems.length ? 1 : 0;
