"""The image classification task: its scores, and the texts of its model card."""

from common.tasks import Task
from hf_momo.hub.cards.task import Record, Score, article_and_type, size
from hf_momo.hub.cards.texts import IMAGE_USAGE
from hf_momo.hub.cards.words import count


class _ImageClassification(Task):
    name = "image-classification"
    pipeline_tag = "image-classification"
    scores = (Score("accuracy", "accuracy", "accuracy", 4), Score("loss", "loss", None, 3))
    score_label = "accuracy (share of the images)"
    highest_score = 1.0
    loss_unit = "nats per image"

    def description(self, record: Record) -> str:
        shape = " x ".join(map(str, record["data"]["image"]))
        classes = count(record["data"]["classes"], "class", "classes")
        return f"{article_and_type(record)} image classifier with {size(record)} for images of {shape} in {classes}"

    def trained_on(self, record: Record) -> str:
        data = record["data"]
        return f"{count(data['splits']['train'], 'image')} ({data['name']})"

    def evaluated_on(self, record: Record, split: str) -> str:
        return f"{count(record['data']['splits'][split], 'image')} of {split}"

    def usage(self, record: Record) -> str:
        return IMAGE_USAGE


IMAGE_CLASSIFICATION = _ImageClassification()
