// The door to the sheet of campaigns: its commands and key, what the session is told, and what the session tells. The sheet
// itself is fetched when it is first opened.
export function render({model, el}) {
  const door = {
    get selection_id() { return model.selection_id; },
    get n_selected() { return model.n_selected; },
    get title() { return model.title; },
    get region() { return model.region.vertices ? model.region : null; },
    get draft() { return model.draft; },
    get focus() { return model.focus; },
    get focus_id() { return model.focus_id; },
    screen: () => ({run: model.run_id, map: model.map_id, lambda: model.lambda_, lambda_mode: model.lambda_mode}),
    send: message => model.send_msg(message),
  };
  let sheet = null;
  const fetched = () => sheet ??= import(new URL("assets/campaigns.js", document.baseURI).href).then(script => script.campaigns(document.body, door));
  const {commands} = window.voorwerp;
  const forget = [
    commands.add({id: "vetting", title: "Vetting: campaigns of experts", group: "Experts", key: "v", shift: true, run: async () => (await fetched()).open()}),
    ...model.may_make ? [
      commands.add({id: "new-campaign", title: "New campaign from the selection or a boundary", group: "Experts", run: async () => (await fetched()).plan()}),
      commands.add({id: "quick-check", title: "Check this selection: 50 random, 3 graders", group: "Experts", when: () => model.n_selected > 0, run: async () => (await fetched()).check()}),
    ] : [],
  ];
  model.on(["selection_id", "n_selected", "draft", "focus", "region", "run_id", "map_id", "lambda_", "lambda_mode"], async () => { if (sheet) (await sheet).renew(); });
  model.on("remove", async () => { forget.forEach(f => f()); if (sheet) (await sheet).remove(); });
  el.hidden = true;
}
