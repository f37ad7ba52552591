// Puts each part that the server sends into the element of its id. The server has escaped all of it.
"use strict";
const source = new EventSource("/events");
source.onmessage = (event) => {
  for (const [id, part] of Object.entries(JSON.parse(event.data))) {
    const element = document.getElementById(id);
    if (element) element.innerHTML = part;
  }
  document.documentElement.dataset.live = "yes";
};
// Over, not broken: a browser would ask again for ever.
source.addEventListener("over", () => {
  source.close();
  document.documentElement.dataset.live = "over";
});
