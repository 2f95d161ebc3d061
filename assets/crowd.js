// The door to the page of volunteers: its command and key, what the session is told, and what the session tells. The page
// itself is fetched when it is first opened.
export function render({model, el}) {
  const door = {
    get run_id() { return model.run_id; },
    get map_id() { return model.map_id; },
    get counting() { return model.counting; },
    reference: "",
    machine: () => ({score: door.reference, run: model.run_id, map: model.map_id, lambda: model.lambda_, lambda_mode: model.lambda_mode}),
    send: message => model.send_msg(message),
  };
  let sheet = null;
  const open = async () => {
    sheet ??= import(new URL("assets/volunteers.js", document.baseURI).href).then(script => script.volunteers(document.body, door));
    (await sheet).open();
  };
  const forget = window.voorwerp.commands.add({id: "volunteers", title: "Volunteers", group: "Page", key: "k", shift: false, run: open});
  model.on(["read", "run_id", "map_id", "lambda_", "lambda_mode"], async () => { if (sheet) (await sheet).renew(); });
  model.on("counting", async () => { if (sheet) (await sheet).counting(); });
  model.on("remove", async () => { forget(); if (sheet) (await sheet).remove(); });
  el.hidden = true;
}
