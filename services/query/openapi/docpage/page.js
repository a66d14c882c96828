'use strict';
(() => {
  const most = 200000; // characters of a body that are shown
  const all = (root, query) => Array.from(root.querySelectorAll(query));
  const make = (tag, text) => { const e = document.createElement(tag); e.textContent = text; return e; };

  // On a small screen the list of operations begins closed.
  if (matchMedia('(max-width: 52rem)').matches) all(document, 'nav details').forEach((d) => { d.open = false; });
  all(document, '.code pre').forEach((pre) => {
    pre.textContent = pre.textContent.replaceAll('http://127.0.0.1:8080', location.origin);
  });
  const credentials = document.getElementById('credentials');
  if (credentials) {
    credentials.hidden = false;
    credentials.addEventListener('submit', (e) => e.preventDefault());
  }

  // targetOf is the path and query that a form stands for.
  const targetOf = (form) => {
    let path = form.dataset.path;
    const query = new URLSearchParams();
    all(form, '[name]').forEach((input) => {
      const value = input.value.trim();
      if (input.dataset.in === 'path') {
        path = path.replace(`{${input.name}}`, encodeURIComponent(value || input.placeholder).replaceAll('%2C', ',').replaceAll('%3A', ':'));
      } else if (value) query.set(input.name, value);
    });
    all(form, '.filter').forEach((set) => {
      const part = (name) => set.querySelector(`[data-part=${name}]`).value.trim();
      if (part('field') && part('value')) query.append(`${part('field')}[${part('op')}]`, part('value'));
    });
    const text = query.toString().replaceAll('%5B', '[').replaceAll('%5D', ']').replaceAll('%2C', ',').replaceAll('%3A', ':');
    return text ? `${path}?${text}` : path;
  };

  // read takes a body as text, and of a long one the beginning.
  const read = async (response) => {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return text + decoder.decode();
      text += decoder.decode(value, { stream: true });
      if (text.length > most) {
        reader.cancel();
        return `${text.slice(0, most)}\n… cut here`;
      }
    }
  };

  const show = (result, response, body, took) => {
    const status = make('p', '');
    status.className = 'status';
    const code = make('b', `${response.status} ${response.statusText}`);
    code.className = `s s${String(response.status)[0]}`;
    status.append(code, ` in ${Math.round(took)} ms, ${body.length} characters`);
    const headers = make('details', '');
    headers.append(make('summary', 'Headers'), make('pre', Array.from(response.headers, ([k, v]) => `${k}: ${v}`).join('\n')));
    let text = body;
    if (/json$/.test((response.headers.get('content-type') || '').split(';')[0]) && body.length <= most) {
      try { text = JSON.stringify(JSON.parse(body), null, 2); } catch { /* shown as it came */ }
    }
    const pre = make('pre', text);
    pre.tabIndex = 0;
    result.replaceChildren(status, headers, pre);
  };

  all(document, 'form.try').forEach((form) => {
    form.hidden = false;
    const target = form.querySelector('.target');
    const result = form.querySelector('.result');
    form.addEventListener('change', ({ target: field }) => {
      if (field.dataset.part !== 'field') return;
      const op = field.closest('.filter').querySelector('[data-part=op]');
      op.replaceChildren(...(field.selectedOptions[0].dataset.ops || '').split(' ').map((o) => make('option', o)));
    });
    const more = form.querySelector('.more');
    if (more) {
      more.addEventListener('click', () => {
        const last = all(form, '.filter').pop();
        const copy = last.cloneNode(true);
        copy.querySelector('[data-part=op]').replaceChildren();
        copy.querySelector('[data-part=value]').value = '';
        last.after(copy);
        copy.querySelector('select').focus();
      });
    }
    // A path parameter that is left empty is its example, as the placeholder shows.
    all(form, '[data-in=path]').forEach((input) => { input.required = !input.placeholder; });
    const refresh = () => { target.textContent = targetOf(form); };
    form.addEventListener('input', refresh);
    form.addEventListener('change', refresh);
    refresh();
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      const headers = {};
      if (credentials) all(credentials, 'input').forEach((i) => { if (i.value) headers[i.dataset.header] = i.dataset.prefix + i.value; });
      result.replaceChildren(make('p', 'Waiting …'));
      const start = performance.now();
      try {
        const response = await fetch(targetOf(form), { headers, cache: 'no-store' });
        show(result, response, await read(response), performance.now() - start);
      } catch (error) {
        result.replaceChildren(make('p', `No answer: ${error.message}`));
      }
    });
  });
})();
