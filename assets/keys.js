// Every command of the page, and its key: the only listener of keys on the window. The command palette and the keyboard
// sheet list what is registered here.
//
//   const forget = voorwerp.commands.add({id, title, group, key, shift, ctrl, alt, run, when, dialog, within});
//
// `key` is KeyboardEvent.key in lower case ("l", "arrowleft", "/"); without one a command is in the palette only. `when()`
// says whether it can be used now. Keys are dead while a person types (but those with `ctrl`, which is ⌘ on a Mac) or has a
// menu open, and in a dialog unless `dialog`. Arrow keys belong to the list or slider in focus, unless that is `within`.
(() => {
  window.voorwerp ??= {};
  if (window.voorwerp.commands) return;

  const commands = new Map();
  const FIELDS = /^(input|textarea|select)$/i;
  const WIDGETS = new Set(["slider", "listbox", "menu", "combobox", "radiogroup", "tablist", "grid"]);
  const typing = e => FIELDS.test(e.tagName ?? "") && !["range", "checkbox", "radio", "button"].includes(e.type) || e.isContentEditable;
  const arrow = key => key.startsWith("arrow") || key === "home" || key === "end" || key === "pageup" || key === "pagedown";

  const fits = (command, event, path) => {
    if (command.key !== event.key.toLowerCase() || Boolean(command.ctrl) !== (event.ctrlKey || event.metaKey)) return false;
    if (command.shift !== undefined && command.shift !== event.shiftKey || event.altKey && !command.alt) return false;
    if (!command.dialog && path.some(e => e.tagName === "DIALOG" && e.open)) return false;
    // a slider, a list or a grid in focus has the arrow keys itself
    if (arrow(command.key) && path.some(e => e.type === "range" || WIDGETS.has(e.getAttribute?.("role")) && e !== command.within)) return false;
    return !command.when || command.when(event);
  };

  window.addEventListener("keydown", event => {
    if (event.defaultPrevented || event.isComposing || !event.key) return;
    const path = event.composedPath();
    if (event.key === "Escape" && path.some(typing)) { path[0].blur(); return; }  // out of the field, and no further
    if (!event.ctrlKey && !event.metaKey && path.some(typing) || path.some(e => e.classList?.contains("MuiPopover-root"))) return;
    for (const command of [...commands.values()].reverse()) {  // the newest first: a dialog's keys before the page's
      if (!command.key || !fits(command, event, path)) continue;
      event.preventDefault();
      command.run(event);
      return;
    }
  });

  // a menu that was chosen from with the mouse gives the keys back to the page
  let pointed = null;
  window.addEventListener("pointerdown", event => { pointed = event.composedPath()[0]; }, true);
  window.addEventListener("input", event => {
    const target = event.composedPath()[0];
    if (target === pointed && target.tagName === "SELECT") setTimeout(() => target.blur());
  }, true);

  window.voorwerp.commands = {
    /** Register a command; the answer takes it away again. */
    add(command) {
      const mine = {...command, key: command.key?.toLowerCase()};
      commands.set(mine.id, mine);
      return () => { if (commands.get(mine.id) === mine) commands.delete(mine.id); };
    },
    /** Everything that can be done now, in the order it was registered. */
    list() { return [...commands.values()].filter(c => !c.when || c.when()); },
    /** Everything there is, whether it can be done now or not. */
    all() { return [...commands.values()]; },
    run(id) { commands.get(id)?.run(); },
  };
})();
